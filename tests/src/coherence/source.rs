//! The files that the processes share: the source of all values, what was answered, and who has heard what.
//!
//! They are written and read at once, without buffers, so that what one process has written before another one reads is
//! there. Numbers stand beside their complement: whoever reads in the middle of a write reads again.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{Deed, KEYS};

/// Bytes of a number and its complement.
const CELL: usize = 16;

/// Nanoseconds of the clock that all processes of a machine share.
pub(super) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Numbers in a file.
#[derive(Debug)]
struct Cells(File);

impl Cells {
    fn create(path: &Path, cells: u32) -> io::Result<()> {
        let file = File::create(path)?;
        let zeros = [0_u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat().repeat(cells as usize);
        file.write_all_at(&zeros, 0)
    }

    fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    fn get(&self, cell: u32) -> io::Result<u64> {
        loop {
            let mut bytes = [0; CELL];
            self.0.read_exact_at(&mut bytes, u64::from(cell) * CELL as u64)?;
            let (number, complement) = halves(&bytes);
            if number == !complement {
                return Ok(number);
            }
            std::hint::spin_loop();
        }
    }

    fn set(&self, cell: u32, number: u64) -> io::Result<()> {
        let bytes = [number.to_le_bytes(), (!number).to_le_bytes()].concat();
        self.0.write_all_at(&bytes, u64::from(cell) * CELL as u64)
    }
}

fn halves(bytes: &[u8; CELL]) -> (u64, u64) {
    let both = u128::from_le_bytes(*bytes);
    let low = u64::try_from(both & u128::from(u64::MAX)).expect("it was masked");
    let high = u64::try_from(both >> 64).expect("it was shifted");
    (low, high)
}

/// The source of all values: for each key how often it has changed.
#[derive(Debug)]
pub(super) struct Source(Cells);

impl Source {
    /// What a load finds.
    pub(super) fn version(&self, key: u32) -> io::Result<u64> {
        self.0.get(key)
    }

    /// Changes the value; answers the new version. Only the writer does.
    pub(super) fn change(&self, key: u32) -> io::Result<u64> {
        let version = self.0.get(key)? + 1;
        self.0.set(key, version)?;
        Ok(version)
    }
}

/// An invalidation or a write that was answered: from `at` on the key has at least this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) key: u32,
    pub(super) version: u64,
    pub(super) deed: Deed,
    /// Whether the process had deferred it first.
    pub(super) deferred: bool,
    /// Nanoseconds of [`now`].
    pub(super) at: u64,
}

/// Bytes of an [`Answered`].
const RECORD: usize = 32;

impl Answered {
    fn bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let deed = Deed::ALL.iter().position(|deed| *deed == self.deed).unwrap_or(0) as u64;
        for (place, number) in bytes.chunks_exact_mut(8).zip([
            self.at,
            self.version,
            u64::from(self.key) | deed << 32 | u64::from(self.deferred) << 40,
            self.check(),
        ]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn check(self) -> u64 {
        !(self.at ^ self.version.rotate_left(17) ^ u64::from(self.key).rotate_left(40))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
        let (at, version, rest, check) = (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?);
        let deed = Deed::ALL.get(usize::try_from(rest >> 32 & 0xff).ok()?)?;
        let key = u32::try_from(rest & u64::from(u32::MAX)).ok()?;
        let answered = Self { key, version, deed: *deed, deferred: rest >> 40 & 1 == 1, at };
        (answered.check() == check).then_some(answered)
    }
}

/// All that was answered, in its order. The writer appends, everybody reads.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    records: AtomicU64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let records = file.metadata()?.len() / RECORD as u64;
        Ok(Self { file, records: AtomicU64::new(records) })
    }

    /// How many records there are, as the writer counts them.
    pub(super) fn len(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Appends records; callers take turns by a lock of their own.
    pub(super) fn append(&self, records: &[Answered]) -> io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.bytes()).collect();
        let end = self.records.load(Ordering::Acquire);
        self.file.write_all_at(&bytes, end * RECORD as u64)?;
        self.records.store(end + records.len() as u64, Ordering::Release);
        Ok(())
    }

    /// The records from this one on.
    pub(super) fn read_from(&self, first: u64) -> io::Result<Vec<Answered>> {
        let start = first * RECORD as u64;
        let length = self.file.metadata()?.len().saturating_sub(start);
        let records = usize::try_from(length).map_err(io::Error::other)? / RECORD;
        let mut bytes = vec![0; records * RECORD];
        self.file.read_exact_at(&mut bytes, start)?;
        // A record that is not there in whole yet ends what can be read.
        Ok(bytes.chunks_exact(RECORD).map_while(Answered::read).collect())
    }
}

/// Who asks to be told that it has heard everything up to now, and how far the writer's answer is.
///
/// A reader asks with a number ([`ask`](Self::ask)); the writer says how much was answered until then
/// ([`promise`](Self::promise)); the reader sets its beacon and says so ([`lit`](Self::lit)); the writer invalidates it.
#[derive(Debug)]
pub(super) struct Beacons(Cells);

impl Beacons {
    const CELLS: u32 = 4;

    /// A reader's question.
    pub(super) fn ask(&self, process: u32, question: u64) -> io::Result<()> {
        self.0.set(process * Self::CELLS, question)
    }

    pub(super) fn asked(&self, process: u32) -> io::Result<u64> {
        self.0.get(process * Self::CELLS)
    }

    /// The writer's answer: so many records were there when it saw the question.
    pub(super) fn promise(&self, process: u32, question: u64, records: u64) -> io::Result<()> {
        self.0.set(process * Self::CELLS + 1, records)?;
        self.0.set(process * Self::CELLS + 2, question)
    }

    pub(super) fn promised(&self, process: u32, question: u64) -> io::Result<Option<u64>> {
        let current = self.0.get(process * Self::CELLS + 2)? == question;
        if current { self.0.get(process * Self::CELLS + 1).map(Some) } else { Ok(None) }
    }

    /// The reader's beacon stands.
    pub(super) fn light(&self, process: u32, question: u64) -> io::Result<()> {
        self.0.set(process * Self::CELLS + 3, question)
    }

    pub(super) fn lit(&self, process: u32, question: u64) -> io::Result<bool> {
        Ok(self.0.get(process * Self::CELLS + 3)? == question)
    }
}

/// All of the files.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) log: Log,
    pub(super) beacons: Beacons,
}

impl Shared {
    /// Makes the files in a folder.
    pub(super) fn create(folder: &Path, processes: u32) -> io::Result<()> {
        let [source, log, beacons] = paths(folder);
        Cells::create(&source, KEYS)?;
        File::create(log)?;
        Cells::create(&beacons, processes * Beacons::CELLS)
    }

    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let [source, log, beacons] = paths(folder);
        Ok(Self {
            source: Source(Cells::open(&source)?),
            log: Log::open(&log)?,
            beacons: Beacons(Cells::open(&beacons)?),
        })
    }
}

fn paths(folder: &Path) -> [PathBuf; 3] {
    ["larder-source", "larder-answers", "larder-beacons"].map(|name| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_read_as_it_was_written() {
        for (index, deed) in Deed::ALL.into_iter().enumerate() {
            let answered = Answered { key: 63, version: 1 << 40, deed, deferred: index % 2 == 0, at: now() };
            assert_eq!(Answered::read(&answered.bytes()), Some(answered));
            let mut torn = answered.bytes();
            torn[8] ^= 1;
            assert_eq!(Answered::read(&torn), None);
        }
        assert_eq!(Answered::read(&[0; RECORD]), None);
    }
}
