//! What is read: keys, the order they are read in, and values.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use rand::SeedableRng;
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// How many keys there are in the near tier's measurements.
pub const KEYS: u32 = 10_000;

/// The exponent of their popularity.
const EXPONENT: f64 = 0.99;

/// How many reads are drawn beforehand; a power of two.
const READS: usize = 1 << 20;

const SEED: u64 = 0x1a4d_e401;

/// A value of about a given size: text, as most of what is cached is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its number.
    pub id: u64,
    /// Text of the size that was asked for.
    pub text: String,
}

impl Document {
    /// A document with so many bytes of text.
    #[must_use]
    pub fn of_bytes(id: u64, bytes: usize) -> Self {
        let text = (0..bytes).map(|place| char::from(b'a' + u8::try_from((id + place as u64) % 26).unwrap_or(0)));
        Self { id, text: text.collect() }
    }
}

/// Which keys are read, in their order: numbers below [`KEYS`], drawn by Zipf's law, the same in every run.
#[derive(Debug)]
pub struct Reads(Vec<u32>);

impl Reads {
    /// Draws them.
    ///
    /// # Panics
    /// Never: the law's parameters are valid.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranks are whole numbers from 1 to KEYS"
    )]
    pub fn draw() -> Self {
        let law = Zipf::new(f64::from(KEYS), EXPONENT).expect("a valid law");
        let mut random = Pcg64::seed_from_u64(SEED);
        Self((0..READS).map(|_| law.sample(&mut random) as u32 - 1).collect())
    }

    /// Endless reads, beginning at a place of the caller's own.
    pub fn from(&self, place: usize) -> impl Iterator<Item = u32> {
        (place..).map(|place| self.0[place % READS])
    }
}

/// The output of a future that does not have to wait, without a runtime.
///
/// # Panics
/// If it has to wait.
#[inline(always)]
pub fn ready<F: Future>(future: F) -> F::Output {
    polled(future).expect("a near hit does not wait")
}

/// The output of a future, `None` if it would have to wait; then it is dropped. In place, as an `.await` would be.
#[inline(always)]
pub(crate) fn polled<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
