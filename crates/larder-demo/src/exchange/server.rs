//! The exchange's server, on a free port of 127.0.0.1.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{
    limit::{Bucket, RequestLimit},
    routes,
};
use crate::{
    interval::Interval,
    market::{Market, NotOffered},
    pace::Pace,
    seeded,
};

/// How the exchange behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeOptions {
    /// Time that each answer takes, drawn per request; 40 to 120 ms by default, `None` for none.
    pub latency: Option<RangeInclusive<Duration>>,
    /// Limit on requests; 100 a second and 50 at once by default, `None` for none.
    pub limit: Option<RequestLimit>,
    /// The time that latency and limit go by.
    pub pace: Pace,
}

impl Default for ExchangeOptions {
    fn default() -> Self {
        let number = |n| std::num::NonZeroU32::new(n).expect("the defaults are not zero");
        Self {
            latency: Some(Duration::from_millis(40)..=Duration::from_millis(120)),
            limit: Some(RequestLimit::new(number(100), number(50))),
            pace: Pace::real(),
        }
    }
}

impl ExchangeOptions {
    /// Sets the latency. A range whose end is before its start counts as its start.
    #[must_use]
    pub fn with_latency(mut self, latency: impl Into<Option<RangeInclusive<Duration>>>) -> Self {
        self.latency = latency.into();
        self
    }

    /// Sets the limit on requests.
    #[must_use]
    pub fn with_limit(mut self, limit: impl Into<Option<RequestLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// Sets the time to go by.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }
}

/// A running exchange. Dropping it stops the server at once; [`stop`](Self::stop) lets it finish its answers.
#[derive(Debug)]
pub struct Exchange {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Exchange {
    /// Starts the server on a free port of 127.0.0.1. It accepts connections when this returns.
    ///
    /// # Errors
    /// No port could be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(market: Arc<Market>, options: ExchangeOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(market, options));
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(listener, routes::router(Arc::clone(&shared))).with_graceful_shutdown(async move {
            // A sender that was dropped says the same as one that was used.
            drop(stopped.await);
        });
        let server = tokio::spawn(async move { serve.await });
        tracing::debug!(%address, "the exchange listens");
        Ok(Self { address, shared, stop: Some(stop), server: Some(server) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of its addresses, `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that were answered, refusals not counted.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Requests that were refused with 429.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The revision of a symbol; 0 to begin with.
    ///
    /// # Errors
    /// The symbol is not traded.
    pub fn revision(&self, symbol: &str) -> Result<u64, NotOffered> {
        self.shared.revision(symbol)
    }

    /// Moves a symbol to a revision.
    ///
    /// # Errors
    /// The symbol is not traded.
    pub fn set_revision(&self, symbol: &str, revision: u64) -> Result<(), NotOffered> {
        self.shared.set_revision(symbol, revision)
    }

    /// Stops accepting, finishes the answers under way and closes. Dropped before its end, it stops at once.
    ///
    /// # Errors
    /// The server failed, or its task did.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop = None;
        match self.server.as_mut() {
            Some(server) => server.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) market: Arc<Market>,
    pub(super) served: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bucket: Option<Bucket>,
    pace: Pace,
    latency: Option<RangeInclusive<Duration>>,
    arrived: AtomicU64,
    revisions: Mutex<HashMap<String, u64>>,
}

impl Shared {
    fn new(market: Arc<Market>, options: ExchangeOptions) -> Self {
        Self {
            market,
            served: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bucket: options.limit.map(|limit| Bucket::new(limit, options.pace.clone())),
            pace: options.pace,
            latency: options.latency,
            arrived: AtomicU64::new(0),
            revisions: Mutex::default(),
        }
    }

    /// Takes as long as the seed has in store for the request of this number.
    pub(super) async fn take_time(&self) {
        let number = self.arrived.fetch_add(1, Ordering::Relaxed);
        if let Some(latency) = &self.latency {
            self.pace.sleep(latency_of(self.market.seed(), latency, number)).await;
        }
    }

    pub(super) fn revision(&self, symbol: &str) -> Result<u64, NotOffered> {
        self.check(symbol)?;
        // Plain numbers stay whole even if a holder of the lock panicked.
        let revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(revisions.get(symbol).copied().unwrap_or(0))
    }

    pub(super) fn set_revision(&self, symbol: &str, revision: u64) -> Result<(), NotOffered> {
        self.check(symbol)?;
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).insert(symbol.to_owned(), revision);
        Ok(())
    }

    fn check(&self, symbol: &str) -> Result<(), NotOffered> {
        if self.market.has(symbol) { Ok(()) } else { Err(NotOffered::Symbol { symbol: symbol.to_owned() }) }
    }
}

fn latency_of(seed: u64, latency: &RangeInclusive<Duration>, number: u64) -> Duration {
    let share: f64 = seeded::rng(seed, &["latency", &number.to_string()]).random_range(0.0..=1.0);
    let spread = latency.end().saturating_sub(*latency.start());
    *latency.start() + spread.mul_f64(share)
}

impl Exchange {
    /// The market's most popular symbol.
    #[must_use]
    pub fn first_symbol(&self) -> String {
        self.shared.market.symbols().first().cloned().unwrap_or_default()
    }

    /// The shortest interval in which a symbol is offered.
    #[must_use]
    pub fn shortest_interval(&self, symbol: &str) -> Option<Interval> {
        self.shared.market.intervals(symbol).ok()?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::latency_of;

    #[test]
    fn latency_fills_its_range_and_repeats_for_a_seed() {
        let range = Duration::from_millis(40)..=Duration::from_millis(120);
        let drawn: Vec<Duration> = (0..500).map(|number| latency_of(9, &range, number)).collect();
        assert!(drawn.iter().all(|latency| range.contains(latency)));
        assert!(*drawn.iter().min().unwrap() < Duration::from_millis(45));
        assert!(*drawn.iter().max().unwrap() > Duration::from_millis(115));
        assert_eq!(drawn[7], latency_of(9, &range, 7));
        assert_ne!(drawn[7], latency_of(10, &range, 7));
    }
}
