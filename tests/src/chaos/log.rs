//! What is logged of a journal's file that cannot be written.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Result, ensure};
use tracing_subscriber::filter::LevelFilter;

const NEEDLE: &[u8] = b"the journal's file cannot be written";

static LISTENS: OnceLock<bool> = OnceLock::new();
static LINES: AtomicU64 = AtomicU64::new(0);

struct Listener;

impl Write for Listener {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.windows(NEEDLE.len()).any(|part| part == NEEDLE) {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens from now on, in the whole program: the journal's file is written by a thread of its own.
pub(super) fn listen() -> Result<()> {
    let listener = tracing_subscriber::fmt().with_max_level(LevelFilter::ERROR).with_writer(|| Listener);
    let listens = LISTENS.get_or_init(|| listener.try_init().is_ok());
    ensure!(*listens, "somebody else listens to the log");
    Ok(())
}

/// Lines so far that say so.
pub(super) fn lines() -> u64 {
    LINES.load(Ordering::Relaxed)
}
