//! How a cache is configured.

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Backend, Error, ErrorKind, Key, Result, SystemClock, Tag, Timer};
use larder_fallback::{FallbackBackend, FallbackBuilder};
use larder_memory::{MemoryBackend, NearConfig, NearTier};
use larder_strategy::{Strategy, Tiers};

use crate::{
    Cache,
    coherence::{self, Coherence},
    engine::{Engine, Parts, region_prefix, spawn_upkeep},
    events,
    health::Notes,
};

/// Turns caching off in the whole process when it is set to anything but `0` or nothing.
const DISABLE: &str = "LARDER_DISABLE";

/// Memory of the near tier: 64 MiB.
const NEAR_BYTES: u64 = 64 << 20;

/// Memory of the fallback: 16 MiB.
const FALLBACK_BYTES: u64 = 16 << 20;

/// How long a remote tier may take to answer that has to be there: longer than it takes to connect, however far it is.
const REQUIRED_WITHIN: Duration = Duration::from_secs(5);

type Adjust = Arc<dyn Fn(FallbackBuilder) -> FallbackBuilder + Send + Sync>;

/// Loads that nobody waits for: each holds what its loader holds.
const MAX_BACKGROUND_LOADS: usize = 1024;

/// Configures a [`Cache`]. Each setting says its default.
#[derive(Clone)]
#[must_use = "a cache is made by `build`"]
pub struct CacheBuilder {
    namespace: String,
    near_bytes: u64,
    near_entries: Option<usize>,
    strategy: Strategy,
    remote: Remote,
    timer: Option<Arc<dyn Timer>>,
    blind_ttl: Duration,
    warn_below_hit_rate: Option<f64>,
    bus: bool,
    tracking: bool,
    command_deadline: Option<Duration>,
    fallback_bytes: u64,
    fallback: Option<Adjust>,
    requires_remote: bool,
    max_background_loads: usize,
    seed: Option<u64>,
}

#[derive(Clone)]
enum Remote {
    None,
    #[cfg(feature = "redis")]
    Redis(String),
    Backend(Arc<dyn Backend>),
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self {
            namespace: "larder".to_owned(),
            near_bytes: NEAR_BYTES,
            near_entries: None,
            strategy: Strategy::default(),
            remote: Remote::None,
            timer: None,
            blind_ttl: Duration::from_secs(1),
            warn_below_hit_rate: None,
            bus: true,
            tracking: false,
            command_deadline: None,
            fallback_bytes: FALLBACK_BYTES,
            fallback: None,
            requires_remote: false,
            max_background_loads: MAX_BACKGROUND_LOADS,
            seed: None,
        }
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.namespace)
            .field("near_bytes", &self.near_bytes)
            .field("strategy", &self.strategy.name)
            .field("has_remote", &!matches!(self.remote, Remote::None))
            .finish_non_exhaustive()
    }
}

impl CacheBuilder {
    /// What all keys begin with: a path such as `shop` or `shop:eu`. Default: `larder`. Caches of one namespace on one
    /// Redis share their values.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Memory of the near tier in bytes, keys and overhead included, at least 64 KiB. Default: 64 MiB.
    pub fn near_bytes(mut self, bytes: u64) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// About how many entries the near tier will hold. Default: as many of 1 KiB as fit.
    pub fn near_entries(mut self, entries: usize) -> Self {
        self.near_entries = Some(entries);
        self
    }

    /// The policy of reads and writes that belong to no region and no cached function. Default: a TTL of 5 minutes with
    /// 10 % jitter, nothing stale.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The default TTL. Default: 5 minutes.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.strategy = self.strategy.ttl(ttl);
        self
    }

    /// A remote tier in Redis: one server (`redis://127.0.0.1:6379/0`), a service that sentinels watch
    /// (`redis-sentinel://host:26379,host:26379/0#service`) or a cluster (`redis-cluster://host:6379,host:6379`). It need
    /// not be there yet. Details are set with `larder_redis::RedisConfig` and [`backend`](Self::backend). Default: none.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.remote = Remote::Redis(url.into());
        self
    }

    /// A remote tier of another kind, or a Redis backend that was configured in detail. Default: none.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.remote = Remote::Backend(backend);
        self
    }

    /// Where time comes from. Default: the machine's clock.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// How long near entries live while messages of other processes may be missed. Zero: the near tier is passed by then.
    /// Default: 1 s.
    pub fn blind_ttl(mut self, ttl: Duration) -> Self {
        self.blind_ttl = ttl;
        self
    }

    /// How long the remote tier may take to answer one command before it counts as a fault. Default: 80 % of the
    /// strategy's `remote_deadline`, 40 ms, so that it is the breaker that notices.
    pub fn remote_command_deadline(mut self, deadline: Duration) -> Self {
        self.command_deadline = Some(deadline);
        self
    }

    /// Memory in bytes for what would go to the remote tier while that is away. Default: 16 MiB.
    pub fn fallback_bytes(mut self, bytes: u64) -> Self {
        self.fallback_bytes = bytes;
        self
    }

    /// Changes what happens while the remote tier is away: when the breaker opens, how many calls may be under way, how much
    /// the journal of removals holds, and whether it is kept in a file. What a [`FallbackBuilder`] is given here goes before
    /// this builder's own settings. Default: as it says.
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::{Cache, Fsync};
    ///
    /// let cache = Cache::builder()
    ///     .fallback(|fallback| fallback.max_calls(256).journal_file("/var/lib/shop/journal", Fsync::Always))
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback(mut self, adjust: impl Fn(FallbackBuilder) -> FallbackBuilder + Send + Sync + 'static) -> Self {
        self.fallback = Some(Arc::new(adjust));
        self
    }

    /// Makes [`build`](Self::build) fail if the remote tier does not answer within 5 s, is refused for a wrong password, or is
    /// still loading its data. Default: the cache starts without it and uses it as soon as it answers.
    pub fn require_remote(mut self) -> Self {
        self.requires_remote = true;
        self
    }

    /// How many loads may go on that nobody waits for: refreshes, and loads whose caller went away or had waited for as
    /// long as it would. While there are as many, no refresh begins, and a call that would have to load gets
    /// [`Overloaded`](crate::LoadError::Overloaded), or the stale value where it may. At least 1. Default: 1024.
    pub fn max_background_loads(mut self, loads: usize) -> Self {
        self.max_background_loads = loads;
        self
    }

    /// Makes jitter and early refreshes repeatable, for tests. Default: by chance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether invalidations are sent to and heard from other processes, where the backend has a bus. Default: yes.
    /// Without it near entries live for the blind TTL.
    pub fn bus(mut self, bus: bool) -> Self {
        self.bus = bus;
        self
    }

    /// Whether near entries are also dropped when a writer that does not use Larder changes their keys: `redis-cli DEL`, a
    /// service in another language, expiry, eviction, FLUSHDB. Takes a connection to each primary and a message for each
    /// change in the namespace. While the store does not tell of changes, near entries live for the blind TTL. Default: no.
    pub fn tracking(mut self, tracking: bool) -> Self {
        self.tracking = tracking;
        self
    }

    /// Logs a warning when fewer than this share of requests are hits, 0 to 1. Checked every 10 s, from 100 requests on.
    /// Default: no warning.
    pub fn warn_below_hit_rate(mut self, share: f64) -> Self {
        self.warn_below_hit_rate = Some(share);
        self
    }

    /// Makes the cache. A remote tier that is away does not keep it from starting: it is used as soon as it answers.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting that is wrong and what would be right. After
    /// [`require_remote`](Self::require_remote) also what keeps the remote tier from answering, by its kind.
    pub async fn build(self) -> Result<Cache> {
        let backend = self.open_backend()?;
        if self.requires_remote {
            self.meet_remote(backend.as_deref()).await?;
        }
        let (bus, tracking) = (self.bus, self.tracking);
        let cache = self.assemble(backend.clone())?;
        if let Some(lineage) = backend.as_ref().and_then(|backend| backend.as_lineage()) {
            lineage.guard(cache.engine.guard());
        }
        if tracking {
            let Some(power) = backend.as_ref().and_then(|backend| backend.as_tracking()) else {
                let message = "the backend does not tell of changes by others; use Redis 6 or later, or leave it off";
                return Err(Error::config("tracking", message));
            };
            cache.engine.coherence.await_tracking();
            cache.engine.begin_tracking(power);
        }
        if bus && backend.is_some() {
            // By way of the fallback: a subscription that stands shows that the server is back.
            match coherence::open(cache.engine.store(), cache.engine.coherence.channel()).await {
                Ok(Some(bus)) => cache.engine.join_bus(bus),
                Ok(None) => {}
                Err(error) => events::degraded("bus", &error),
            }
        }
        cache.engine.watch_breaker();
        spawn_upkeep(&cache.engine);
        Ok(cache)
    }

    async fn meet_remote(&self, backend: Option<&dyn Backend>) -> Result<()> {
        let Some(backend) = backend else {
            return Err(Error::config("require_remote", "there is no remote tier; name one with `redis` or `backend`"));
        };
        let timer = self.timer.clone().unwrap_or_else(|| Arc::new(SystemClock::new()));
        let late = || Error::new(ErrorKind::Timeout, "ping", format!("no answer within {REQUIRED_WITHIN:?}"));
        let answer = timer.within(REQUIRED_WITHIN, backend.ping()).await;
        answer.unwrap_or_else(|| Err(late())).map_err(|error| {
            let message = "the remote tier must answer (`require_remote`) and does not";
            Error::new(error.kind(), "build", message).with_source(error)
        })
    }

    /// A cache without a remote tier, for where nothing can be awaited.
    pub(crate) fn near_only(self) -> Result<Cache> {
        let cache = self.assemble(None)?;
        spawn_upkeep(&cache.engine);
        Ok(cache)
    }

    fn assemble(self, backend: Option<Arc<dyn Backend>>) -> Result<Cache> {
        let prefix = self.checked_prefix()?;
        let timer = self.timer.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let mut near = NearConfig::new(self.near_bytes);
        if let Some(entries) = self.near_entries {
            near = near.near_entries(entries);
        }
        let mut strategy = self.strategy;
        if backend.is_none() && strategy.tiers == Tiers::Remote {
            let message =
                "the strategy keeps entries in the remote tier only, and there is none; name one or use both tiers";
            return Err(Error::config("strategy", message));
        }
        if backend.is_none() {
            strategy = strategy.tiers(Tiers::Near);
        }
        let expects_bus = self.bus && backend.as_ref().is_some_and(|backend| backend.as_bus().is_some());
        let coherence = Arc::new(Coherence::new(&prefix, self.blind_ttl, self.bus));
        let mut stand_in = None;
        let remote = match backend {
            None => None,
            Some(primary) => {
                let secondary = MemoryBackend::builder().max_bytes(self.fallback_bytes).clock(timer.clone()).build()?;
                let secondary = Arc::new(secondary);
                let deadline = self.command_deadline.unwrap_or(strategy.remote_deadline / 5 * 4);
                let fallback = FallbackBackend::builder(primary.clone(), secondary.clone())
                    .deadline(deadline)
                    .outage_ttl(strategy.outage_ttl)
                    .timer(timer.clone())
                    .generation(Tag::everything().marker(&prefix));
                let fallback = if self.bus {
                    let speaker = Arc::clone(&coherence);
                    let say = move |keys: &[Key]| speaker.removal(keys);
                    fallback.announce(coherence.channel().to_owned(), Arc::new(say))
                } else {
                    fallback
                };
                let fallback = match &self.fallback {
                    Some(adjust) => adjust(fallback),
                    None => fallback,
                };
                stand_in = Some(secondary);
                Some((primary, Arc::new(fallback.build()?)))
            }
        };
        let engine = Engine::new(Parts {
            prefix,
            near: NearTier::new(&near)?,
            remote,
            secondary: stand_in,
            local: Arc::new(MemoryBackend::builder().clock(timer.clone()).build()?),
            timer,
            strategy,
            coherence,
            warn_below_hit_rate: self.warn_below_hit_rate,
            max_background_loads: self.max_background_loads,
            notes: Notes::new(expects_bus),
            seed: self.seed,
            enabled: !disabled_by(std::env::var(DISABLE).ok().as_deref()),
        })?;
        Ok(Cache::of(engine))
    }

    fn checked_prefix(&self) -> Result<String> {
        if self.namespace.is_empty() || self.namespace.starts_with(':') || self.namespace.ends_with(':') {
            let message = format!("{:?} is not a name; use a path such as `shop` or `shop:eu`", self.namespace);
            return Err(Error::config("namespace", message));
        }
        if self.namespace.len() > 128 {
            return Err(Error::config("namespace", "it has more than 128 bytes; keys need the room"));
        }
        if let Some(share) = self.warn_below_hit_rate
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::config("warn_below_hit_rate", format!("{share} is no share; use 0 to 1, such as 0.8")));
        }
        if self.max_background_loads == 0 {
            return Err(Error::config(
                "max_background_loads",
                "it is 0; stale values could never be refreshed: use 1 or more",
            ));
        }
        Ok(region_prefix("", &self.namespace))
    }

    fn open_backend(&self) -> Result<Option<Arc<dyn Backend>>> {
        Ok(match &self.remote {
            Remote::None => None,
            #[cfg(feature = "redis")]
            Remote::Redis(url) => {
                let config = larder_redis::RedisConfig::from_url(url)?;
                Some(Arc::new(larder_redis::RedisBackend::new(config)?))
            }
            Remote::Backend(backend) => Some(Arc::clone(backend)),
        })
    }
}

fn disabled_by(value: Option<&str>) -> bool {
    value.is_some_and(|value| !matches!(value, "" | "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_turns_caching_off() {
        assert!(disabled_by(Some("1")));
        assert!(disabled_by(Some("true")));
        assert!(!disabled_by(Some("0")));
        assert!(!disabled_by(Some("")));
        assert!(!disabled_by(None));
    }
}
