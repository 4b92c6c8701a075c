//! The settings of a fallback.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use larder_core::{Announcement, Backend, Error, Key, Result, SystemClock, Timer};

use crate::{
    Breaker, BreakerSettings, FallbackBackend, Fsync,
    journal::{Bounds, Journal},
    journal_file::JournalFile,
    log,
    shared::{Parts, Shared},
};

/// A call that takes longer than this share of the deadline is slow, unless the builder says otherwise.
const SLOW_SHARE: f64 = 0.8;

/// How a fallback behaves.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) deadline: Duration,
    pub(crate) slow_call: Duration,
    pub(crate) successes: u32,
    pub(crate) max_calls: usize,
    pub(crate) outage_ttl: Duration,
    pub(crate) local_counters: bool,
    pub(crate) copy_back: Option<Bounds>,
    pub(crate) announce: Option<Announce>,
}

/// How other processes are told of removals that are made up for.
pub(crate) struct Announce {
    pub(crate) channel: String,
    pub(crate) message: Announcement,
}

impl fmt::Debug for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announce").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Settings of a [`FallbackBackend`].
#[must_use = "call `build` to get the backend"]
pub struct FallbackBuilder {
    primary: Arc<dyn Backend>,
    secondary: Arc<dyn Backend>,
    settings: Settings,
    slow_call: Option<Duration>,
    breaker: BreakerSettings,
    journal: Bounds,
    generation: Option<Key>,
    leading: Option<Key>,
    file: Option<(PathBuf, Fsync)>,
    timer: Option<Arc<dyn Timer>>,
    seed: Option<u64>,
}

impl FallbackBuilder {
    pub(crate) fn new(primary: Arc<dyn Backend>, secondary: Arc<dyn Backend>) -> Self {
        let settings = Settings {
            deadline: Duration::from_millis(50),
            slow_call: Duration::ZERO,
            successes: 1,
            max_calls: 1024,
            outage_ttl: Duration::from_secs(60),
            local_counters: false,
            copy_back: None,
            announce: None,
        };
        Self {
            primary,
            secondary,
            settings,
            slow_call: None,
            breaker: BreakerSettings::default(),
            journal: Bounds { keys: 10_000, bytes: 8 << 20 },
            generation: None,
            leading: None,
            file: None,
            timer: None,
            seed: None,
        }
    }

    /// How long a call to the primary may take; above zero, by default 50 ms. A batch of writes has as long once more for
    /// every 64 values, up to twenty times. A caller's own deadline should be longer: one that gives up earlier leaves the
    /// breaker without a verdict, unless twenty in a row that waited for an eighth of it got no answer.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// When the breaker opens and closes. The setters below change one of these settings each.
    pub fn breaker(mut self, settings: BreakerSettings) -> Self {
        self.breaker = settings;
        self
    }

    /// Faults in a row that open the breaker; at least 1, by default 3.
    pub fn failures(mut self, failures: u32) -> Self {
        self.breaker.failures = failures;
        self
    }

    /// How far back calls count; above zero, by default 10 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.breaker.window = window;
        self
    }

    /// The pause before the first probe and the longest one; by default 250 ms and 1 s.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.breaker.first_pause = first;
        self.breaker.longest_pause = longest;
        self
    }

    /// A call about one key that takes this long is slow; above zero, by default four fifths of the deadline, when it was
    /// nearly given up. Probes have to be quicker too. `Duration::MAX` turns the rule about slow calls off.
    pub fn slow_call(mut self, limit: Duration) -> Self {
        self.slow_call = Some(limit);
        self
    }

    /// Calls that may be under way to the primary at the same time, where a shared one counts for each of its callers; at
    /// least 1, by default 1,024. One more is not sent: a read is a miss, a removal is remembered, a value goes to the
    /// secondary and its key's removal is remembered, a conditional write or a counter fails with
    /// [`Overloaded`](larder_core::ErrorKind::Overloaded). The breaker does not count that.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.settings.max_calls = calls;
        self
    }

    /// How long the secondary keeps anything at most; above zero, by default 60 s.
    pub fn outage_ttl(mut self, ttl: Duration) -> Self {
        self.settings.outage_ttl = ttl;
        self
    }

    /// Whether counters, locks and conditional writes go to the secondary while the primary is away, by default not. Every
    /// process then has its own, and they end with the outage.
    pub fn local_counters(mut self, local: bool) -> Self {
        self.settings.local_counters = local;
        self
    }

    /// Copies what the secondary took in to the primary when that is back, up to so many values (at least 1) and bytes of them
    /// (at least 1,024), by default nothing. For a store that **this fallback alone** writes to and removes from: if another
    /// process removes a key while this one is cut off, nothing tells this one of it, and the copy would bring the old value
    /// back. Where others are told of removals ([`announce`](Self::announce)), where values carry a
    /// [`generation`](Self::generation), which those of an outage cannot know, and with
    /// [`local_counters`](Self::local_counters) it is refused. That is why a cache of the `larder` crate cannot have it.
    ///
    /// Copied are values that were written or filled in during the outage and not removed since, with what they have left of
    /// their lives (`outage_ttl` at most), where the primary holds nothing, after the journal was replayed. It takes no longer than
    /// one call's deadline; what is left then is dropped. After [`force_closed`](FallbackBackend::force_closed) nothing is copied.
    pub fn copy_back(mut self, values: usize, bytes: usize) -> Self {
        self.settings.copy_back = Some(Bounds { keys: values, bytes });
        self
    }

    /// Keys whose removal can be remembered; at least 1, by default 10,000.
    pub fn journal_keys(mut self, keys: usize) -> Self {
        self.journal.keys = keys;
        self
    }

    /// Bytes that they may take up, about; at least 1,024, by default 8 MiB. A key takes up its text and 160 bytes.
    pub fn journal_bytes(mut self, bytes: usize) -> Self {
        self.journal.bytes = bytes;
        self
    }

    /// A key whose removal makes everything unreadable that the primary holds for this fallback's users, as the marker does
    /// that every entry of a namespace carries. It is removed in place of removals that found no room, and of those that an
    /// earlier process may have taken with it; until then no key is read from the primary. By default there is none, and
    /// such removals are lost.
    pub fn generation(mut self, key: Key) -> Self {
        self.generation = Some(key);
        self
    }

    /// A key whose removal is confirmed before that of any other that is remembered with it, as it has to be where its absence
    /// tells readers not to trust what they find under the others. By default there is none, and no order.
    pub fn leading(mut self, key: Key) -> Self {
        self.leading = Some(key);
        self
    }

    /// Tells other processes of the removals that are made up for after an outage: they go out with a message on this
    /// channel of the primary's bus, in one step. `message` is asked for each step. By
    /// default nobody is told.
    pub fn announce(mut self, channel: String, message: Announcement) -> Self {
        self.settings.announce = Some(Announce { channel, message });
        self
    }

    /// Keeps the journal in a file too, so that removals which are remembered outlive this process. The file is made if it
    /// is not there, its folder is not; no other process may have it open. What it holds already is removed from the primary
    /// before it is read. By default there is no file.
    ///
    /// The file is written by a thread of its own. A removal is said to be remembered once it has been written as `fsync`
    /// says, which takes at most the deadline; a write that fails is logged once and counted, and the journal goes on in
    /// memory. Dropping the backend waits for the thread.
    pub fn journal_file(mut self, path: impl Into<PathBuf>, fsync: Fsync) -> Self {
        self.file = Some((path.into(), fsync));
        self
    }

    /// Where time comes from, by default the machine's clock.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes the pauses repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the backend. Asks neither of the two for anything; reads the journal's file, if there is one.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting and what would be right: also for a journal file that
    /// cannot be used.
    pub fn build(self) -> Result<FallbackBackend> {
        self.check()?;
        let Self { primary, secondary, mut settings, slow_call, breaker, journal, .. } = self;
        let (generation, leading, file, timer, seed) =
            (self.generation, self.leading, self.file, self.timer, self.seed);
        settings.slow_call = slow_call.unwrap_or_else(|| settings.deadline.mul_f64(SLOW_SHARE));
        settings.successes = breaker.successes;
        let is_covered = generation.is_some();
        let mut journal = Journal::new(journal, generation, leading);
        let file = match &file {
            None => None,
            Some((path, fsync)) => {
                let (file, keys, is_complete) = JournalFile::open(path, *fsync)?;
                journal.restore(Arc::clone(&file), &keys, is_complete);
                if !keys.is_empty() || !is_complete {
                    log::journal_found(&path.display().to_string(), keys.len(), is_complete, is_covered);
                }
                Some(file)
            }
        };
        Ok(FallbackBackend::assemble(Shared::new(Parts {
            primary,
            secondary,
            settings,
            breaker: Breaker::new(breaker)?,
            timer: timer.unwrap_or_else(|| Arc::new(SystemClock::new())),
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            journal,
            file,
        })))
    }

    fn check(&self) -> Result<()> {
        if self.settings.deadline.is_zero() {
            return Err(Error::config("deadline", "is zero; give the time that a call to the primary may take"));
        }
        if self.slow_call.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::config("slow_call", "is zero; give the time from which on a call is slow"));
        }
        if self.settings.max_calls == 0 {
            return Err(Error::config("max_calls", "is 0; give at least 1, or the primary is never asked"));
        }
        if self.settings.outage_ttl.is_zero() {
            return Err(Error::config("outage_ttl", "is zero; give the time that the secondary may keep a value"));
        }
        if self.journal.keys == 0 {
            return Err(Error::config("journal_keys", "is 0; give at least 1, or removals are lost in an outage"));
        }
        if self.journal.bytes < 1024 {
            let message = format!("is {}; give at least 1,024, so that a key of any length fits", self.journal.bytes);
            return Err(Error::config("journal_bytes", message));
        }
        self.check_copy_back()?;
        self.breaker.check()
    }

    fn check_copy_back(&self) -> Result<()> {
        let Some(Bounds { keys, bytes }) = self.settings.copy_back else { return Ok(()) };
        if keys == 0 || bytes < 1024 {
            let message = format!("is {keys} values of {bytes} bytes; give at least 1 and 1,024, or leave it out");
            return Err(Error::config("copy_back", message));
        }
        let other = if self.settings.announce.is_some() {
            "`announce`: other processes may have changed what is copied"
        } else if self.generation.is_some() {
            "`generation`: values of an outage do not carry that of the primary"
        } else if self.settings.local_counters {
            "`local_counters`: what they count is this process's own"
        } else {
            return Ok(());
        };
        Err(Error::config("copy_back", format!("cannot go together with {other}; leave one of them out")))
    }
}

impl fmt::Debug for FallbackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackBuilder")
            .field("primary", &self.primary)
            .field("secondary", &self.secondary)
            .field("settings", &self.settings)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
