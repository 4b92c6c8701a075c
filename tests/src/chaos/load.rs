//! The callers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::Zipf;
use rand_pcg::Pcg64Mcg;

use super::{
    latency::{Sample, micros},
    truth::{ITEMS, Reading, Verdict, WrongValue},
    world::{Process, World, kind},
};

/// Callers of each process.
pub(super) const CALLERS: u64 = 64;

const EXPONENT: f64 = 0.99;

/// Reads at once where all items are read.
const AT_ONCE: usize = 16;

/// Spreads the popular items over groups and over both kinds; odd, and prime to the number of items.
const SPREAD: u64 = 7919;

/// A generator of its own for each purpose of a run.
pub(super) fn rng(seed: u64, purpose: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(purpose))
}

/// A pause with this mean.
pub(super) fn pause(rng: &mut Pcg64Mcg, mean: Duration) -> Duration {
    mean.mul_f64(rng.random_range(0.0..2.0))
}

/// Asks until the callers are to end.
pub(super) async fn call(world: Arc<World>, process: usize, caller: u64) -> Result<Vec<Sample>> {
    let mut rng = rng(world.settings.seed, (process as u64) << 32 | caller);
    let ranks = Zipf::new(f64::from(ITEMS), EXPONENT)?;
    let mut samples = Vec::new();
    while !world.callers_end.load(Ordering::Relaxed) {
        let item = if world.scenario.is_bystander(process) {
            // Few, so that it always has them at hand.
            item_of_rank(f64::from(rng.random_range(1..=20_u8))) & !1
        } else {
            item_of_rank(rng.sample(ranks))
        };
        samples.push(ask(&world, process, item).await);
        tokio::time::sleep(pause(&mut rng, world.settings.think)).await;
    }
    Ok(samples)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is a whole number from 1 to ITEMS")]
fn item_of_rank(rank: f64) -> u32 {
    let rank = (rank as u64).clamp(1, u64::from(ITEMS)) - 1;
    (rank * SPREAD % u64::from(ITEMS)) as u32
}

/// Reads every item in every process, as callers do, but not so many at once.
pub(super) async fn ask_for_all(world: &World) {
    let all = (0..world.processes.len()).flat_map(|process| (0..ITEMS).map(move |item| (process, item)));
    let calls = all.map(|(process, item)| ask(world, process, item));
    stream::iter(calls).buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(())).await;
}

/// One call, and what it is worth.
async fn ask(world: &World, process: usize, item: u32) -> Sample {
    ask_of(world, &world.processes[process], (process, item)).await
}

/// The same, of a process that is held to what another was promised.
pub(super) async fn ask_of(world: &World, asked: &Process, (process, item): (usize, u32)) -> Sample {
    let ran_us = Arc::new(AtomicU32::new(0));
    let floor = world.truth.floor(process, item);
    let (at, begun) = (world.now(), Instant::now());
    let answer = world.read(asked, item, Arc::clone(&ran_us)).await;
    let took = begun.elapsed();
    world.tally.calls.fetch_add(1, Ordering::Relaxed);
    match answer {
        Ok(outcome) => judge(world, (process, item, floor), at, &outcome.value, outcome.x_cache()),
        Err(error) => world.tally.error(format!("call: {}", kind(&error))),
    }
    Sample { begun_us: micros(at), took_us: micros(took), load_us: ran_us.load(Ordering::Relaxed) }
}

fn judge(world: &World, (process, item, floor): (usize, u32, u64), at: Duration, answer: &Reading, source: &str) {
    if world.truth.judge(item, floor, answer) != Verdict::Right {
        world.tally.wrong(WrongValue {
            process,
            item,
            got: answer.version,
            floor,
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            source: source.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_item_has_a_rank_and_the_most_popular_ones_are_of_both_kinds() {
        let items: HashSet<u32> = (1..=ITEMS).map(|rank| item_of_rank(f64::from(rank))).collect();
        assert_eq!(items.len(), ITEMS as usize);
        assert_ne!(item_of_rank(1.0) % 2, item_of_rank(2.0) % 2);
    }

    #[test]
    fn a_seed_gives_the_same_draws_and_each_purpose_its_own() {
        let draw = |seed, purpose| rng(seed, purpose).random::<u64>();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }
}
