//! The journal's file: what a process that dies in an outage leaves to its successor.
//!
//! A thread writes, so that no call ever waits for a disk with a lock held. What is to be written is merged under a small
//! lock until the thread comes to it, and is bounded as the journal is. Callers wait until their removal has been written
//! as the policy says before they are told that it is remembered ([`JournalFile::written`]).
//!
//! The file grows with the journal, is emptied with it, and rewritten when it has become much larger than what it holds. It
//! is locked for as long as it is open. A write that fails is counted and logged once; the journal in memory goes on, and
//! the file stays marked as open until it has been rewritten as a whole.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    // The thread waits for the disk, not for what tests move by hand.
    time::{Duration, Instant},
};

use larder_core::{Error, Key, Result};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::journal_format::{HEADER_BYTES, encode, encoded_len, header, parse};

/// Below this many bytes a file is not rewritten.
const SMALL: usize = 64 << 10;

/// When what was written to the journal's file is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fsync {
    /// When the operating system sees fit: removals survive the end of the process, not that of the machine.
    Never,
    /// At most so long after it was written.
    Interval(Duration),
    /// Before a removal is said to be remembered.
    Always,
}

/// The handle of the file and its thread.
pub(crate) struct JournalFile {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pending: Mutex<Pending>,
    changed: Condvar,
    written: watch::Sender<u64>,
    errors: AtomicU64,
    is_failing: AtomicBool,
}

/// What the thread has not come to yet.
#[derive(Debug, Default)]
struct Pending {
    work: Work,
    /// What the file will hold after that, and how much makes it worth rewriting.
    bytes: usize,
    rewrite_at: usize,
    is_closing: bool,
}

#[derive(Debug, Default)]
struct Work {
    /// Whether the file is to hold nothing but these keys.
    rewrite: bool,
    keys: Vec<Key>,
    /// Whether the journal holds something, and whether more than its keys.
    is_open: bool,
    is_overflown: bool,
    sequence: u64,
}

impl JournalFile {
    /// Opens and locks a file, and reads what is in it: its keys, and whether these are all.
    pub(crate) fn open(path: &Path, fsync: Fsync) -> Result<(Arc<Self>, Vec<Key>, bool)> {
        let failed = |doing: &str, error: &dyn fmt::Display| {
            Error::config("journal_file", format!("{} cannot be {doing}: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(|error| failed("opened", &error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                failed("used", &"another process or another cache has it open; give each a file of its own")
            }
            TryLockError::Error(error) => failed("locked", &error),
        })?;
        let foreign = || failed("used", &"it is no journal of this version; give another path");
        let mut bytes = Vec::new();
        // Who knows how long another program's file is.
        (&mut file).take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(|error| failed("read", &error))?;
        parse(&bytes).ok_or_else(foreign)?;
        file.read_to_end(&mut bytes).map_err(|error| failed("read", &error))?;
        let contents = parse(&bytes).ok_or_else(foreign)?;
        let mut log = Log {
            file,
            length: contents.length,
            is_marked: contents.is_open,
            is_overflown: !contents.is_complete,
            is_torn: false,
            fsync,
            unsynced: None,
        };
        if contents.length == 0 {
            log.begin().map_err(|error| failed("written", &error))?;
        }
        let file = Self::start(path, log).map_err(|error| failed("written", &error))?;
        Ok((Arc::new(file), contents.keys, contents.is_complete))
    }

    fn start(path: &Path, log: Log) -> io::Result<Self> {
        let work = Work { is_overflown: log.is_overflown, ..Work::default() };
        let pending = Pending { work, bytes: log.length, rewrite_at: log.length.max(SMALL) * 2, is_closing: false };
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            pending: Mutex::new(pending),
            changed: Condvar::new(),
            written: watch::Sender::new(0),
            errors: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("larder-journal".to_owned()).spawn(move || shared.run(log))?;
        Ok(Self { inner, thread: Mutex::new(Some(thread)) })
    }

    /// A key that was not in the journal before. `all` answers what the journal holds now.
    pub(crate) fn append(&self, key: &Key, all: impl FnOnce() -> Vec<Key>) {
        self.change(|pending| {
            pending.bytes += encoded_len(key);
            if pending.bytes > pending.rewrite_at {
                pending.work.keys = all();
                pending.work.rewrite = true;
                pending.bytes = pending.work.keys.iter().map(encoded_len).sum();
                pending.rewrite_at = pending.bytes.max(SMALL) * 2;
            } else {
                pending.work.keys.push(key.clone());
            }
            pending.work.is_open = true;
        });
    }

    /// The journal holds more than its keys.
    pub(crate) fn overflow(&self) {
        self.change(|pending| {
            pending.work.is_open = true;
            pending.work.is_overflown = true;
        });
    }

    /// The journal holds nothing.
    pub(crate) fn empty(&self) {
        self.change(|pending| {
            let sequence = pending.work.sequence;
            pending.work = Work { rewrite: true, sequence, ..Work::default() };
            pending.bytes = 0;
            pending.rewrite_at = SMALL * 2;
        });
    }

    fn change(&self, act: impl FnOnce(&mut Pending)) {
        let mut pending = self.inner.pending.lock();
        act(&mut pending);
        pending.work.sequence += 1;
        self.inner.changed.notify_one();
    }

    /// Completes once everything that was told so far has been written, or could not be.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let sequence = self.inner.pending.lock().work.sequence;
        let mut written = self.inner.written.subscribe();
        // A thread that is gone will not write any more; that is counted where it ends.
        async move { drop(written.wait_for(|done| *done >= sequence).await) }
    }

    /// Waits until the rest has been written, so that the end of the process does not come between, and lets go of the file.
    /// What is told afterwards is not written.
    pub(crate) fn close(&self) {
        self.inner.pending.lock().is_closing = true;
        self.inner.changed.notify_one();
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!(target: "larder", path = %self.inner.path.display(), "the journal's thread panicked");
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        self.inner.errors.load(Ordering::Relaxed)
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.inner.is_failing.load(Ordering::Relaxed)
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for JournalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalFile").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn run(&self, mut log: Log) {
        loop {
            let (work, is_closing) = self.next(&log);
            let sequence = work.as_ref().map(|work| work.sequence);
            let outcome = work.map_or(Ok(()), |work| log.apply(&work));
            let outcome = outcome.and_then(|()| if is_closing { log.close() } else { log.sync_if_due() });
            log.is_torn |= outcome.is_err();
            self.report(&log, outcome);
            if let Some(sequence) = sequence {
                self.written.send_replace(sequence);
            }
            if is_closing {
                return;
            }
        }
    }

    /// Waits for work, for the end, or until written bytes must be forced to the disk.
    fn next(&self, log: &Log) -> (Option<Work>, bool) {
        let done = *self.written.borrow();
        let mut pending = self.pending.lock();
        while pending.work.sequence == done && !pending.is_closing {
            match log.sync_due() {
                None => self.changed.wait(&mut pending),
                Some(due) => {
                    if self.changed.wait_until(&mut pending, due).timed_out() {
                        return (None, false);
                    }
                }
            }
        }
        let work = (pending.work.sequence != done).then(|| pending.work.take());
        (work, pending.is_closing)
    }

    fn report(&self, log: &Log, outcome: io::Result<()>) {
        let path = self.path.display();
        let failing = outcome.is_err() || log.is_torn;
        let was_failing = self.is_failing.swap(failing, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.errors.fetch_add(1, Ordering::Relaxed);
            if !was_failing {
                tracing::error!(
                    target: "larder",
                    %path,
                    %error,
                    "the journal's file cannot be written: removals are remembered in memory only, and if this process ends \
                     now its successor clears the whole namespace; check the disk"
                );
            }
        } else if was_failing && !failing {
            tracing::info!(target: "larder", %path, "the journal's file is written again");
        }
    }
}

impl Work {
    /// What is to be done, once; how the journal is stays.
    fn take(&mut self) -> Self {
        Self { rewrite: std::mem::take(&mut self.rewrite), keys: std::mem::take(&mut self.keys), ..*self }
    }
}

/// The file as its thread sees it.
struct Log {
    file: File,
    /// Up to where it is sound.
    length: usize,
    /// Whether the header says that the journal is open.
    is_marked: bool,
    /// Whether more than its keys has to be removed.
    is_overflown: bool,
    /// Whether a write failed since the file was last rewritten as a whole.
    is_torn: bool,
    fsync: Fsync,
    /// Since when there is something that was not forced to the disk.
    unsynced: Option<Instant>,
}

impl Log {
    fn begin(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.write_at(0, &header(false))?;
        self.length = HEADER_BYTES;
        Ok(())
    }

    fn apply(&mut self, work: &Work) -> io::Result<()> {
        self.is_overflown = work.is_overflown;
        if work.is_open {
            self.mark(true)?;
        }
        if work.rewrite {
            self.file.set_len(HEADER_BYTES as u64)?;
            self.length = HEADER_BYTES;
            self.is_torn = false;
        }
        if !work.keys.is_empty() {
            let mut bytes = Vec::with_capacity(work.keys.iter().map(encoded_len).sum());
            work.keys.iter().for_each(|key| encode(key, &mut bytes));
            self.write_at(self.length, &bytes)?;
            self.length += bytes.len();
        }
        if !work.is_open && !self.is_torn {
            self.mark(false)?;
        }
        Ok(())
    }

    /// The process ends properly: what is in the file is all there is, unless something is known to be missing.
    fn close(&mut self) -> io::Result<()> {
        // A full disk may have refused the mark when a removal did not get in.
        self.mark(self.is_torn || self.is_overflown)?;
        if self.fsync != Fsync::Never && self.unsynced.take().is_some() {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn mark(&mut self, is_open: bool) -> io::Result<()> {
        if self.is_marked != is_open {
            self.write_at(0, &header(is_open))?;
            self.is_marked = is_open;
        }
        Ok(())
    }

    fn write_at(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(bytes)?;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn sync_due(&self) -> Option<Instant> {
        match self.fsync {
            Fsync::Never => None,
            Fsync::Interval(interval) => self.unsynced.and_then(|since| since.checked_add(interval)),
            Fsync::Always => self.unsynced,
        }
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        if self.sync_due().is_some_and(|due| due <= Instant::now()) {
            // Not tried again: what the disk refused once is gone from its buffers, and a second call would not tell.
            self.unsynced = None;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose handle can be changed for one that refuses writes, as a full disk does.
    fn log(path: &Path) -> Log {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let mut log = Log {
            file,
            length: 0,
            is_marked: false,
            is_overflown: false,
            is_torn: false,
            fsync: Fsync::Always,
            unsynced: None,
        };
        log.begin().unwrap();
        log
    }

    fn append(name: &str) -> Work {
        Work { keys: vec![Key::new(name)], is_open: true, ..Work::default() }
    }

    #[test]
    fn a_write_that_failed_leaves_the_file_open_until_it_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut log = log(&path);
        log.apply(&append("a")).unwrap();
        let writable = std::mem::replace(&mut log.file, File::open(&path).unwrap());
        log.is_torn |= log.apply(&append("b")).is_err();
        assert!(log.is_torn);
        log.file = writable;
        log.apply(&append("c")).unwrap();
        log.close().unwrap();
        let contents = parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((contents.keys, contents.is_complete), (vec![Key::new("a"), Key::new("c")], false));

        log.apply(&Work { rewrite: true, ..Work::default() }).unwrap();
        let contents = parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((contents.keys.len(), contents.is_complete), (0, true));
    }

    #[test]
    fn a_file_that_could_not_be_marked_as_open_is_marked_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut log = log(&path);
        let writable = std::mem::replace(&mut log.file, File::open(&path).unwrap());
        log.is_torn |= log.apply(&append("a")).is_err();
        log.file = writable;
        log.close().unwrap();
        assert!(!parse(&std::fs::read(&path).unwrap()).unwrap().is_complete, "it lacks a removal");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_counted_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut log = log(&path);
        log.file = File::open(&path).unwrap();
        let file = JournalFile::start(&path, log).unwrap();
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            file.append(&Key::new(name), Vec::new);
            file.written().await;
            assert_eq!((file.errors(), file.is_failing()), (number as u64 + 1, true));
        }
    }
}
