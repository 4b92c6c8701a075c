//! A reproducible mix of requests to the service.
//!
//! The kind of a request is drawn by weight, its symbol, interval and user after Zipf's law. The mix holds reads only, so
//! that two runs of one workload can be compared answer by answer whatever their order; writes are for the driver to
//! place between runs.

use std::fmt;

use rand::RngExt as _;
use rand_distr::weighted::WeightedIndex;
use rand_pcg::Pcg64Mcg;

use crate::{
    indicators::IndicatorKind,
    interval::Interval,
    seeded,
    zipf::{BadPopularity, Popularity},
};

/// One request to the service. Displays as `GET /ticker/BTCUSDT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Request {
    /// The newest prices.
    Ticker {
        /// Of this symbol.
        symbol: String,
    },
    /// Open orders.
    OrderBook {
        /// Of this symbol.
        symbol: String,
        /// Levels a side.
        depth: usize,
    },
    /// What can be traded.
    ExchangeInfo,
    /// Candles.
    Candles {
        /// Of this symbol.
        symbol: String,
        /// Their length.
        interval: Interval,
        /// How many.
        limit: usize,
    },
    /// An indicator.
    Indicator {
        /// Of this symbol.
        symbol: String,
        /// Which.
        kind: IndicatorKind,
        /// Over candles of this length.
        interval: Interval,
    },
    /// What a user has set.
    Preferences {
        /// Number of the user.
        user: u64,
    },
    /// What a user holds.
    Positions {
        /// Number of the user.
        user: u64,
    },
    /// Drop what is cached of a symbol. Never in the mix.
    InvalidateSymbol {
        /// The symbol.
        symbol: String,
    },
}

impl Request {
    /// The HTTP method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::InvalidateSymbol { .. } => "POST",
            _ => "GET",
        }
    }

    /// The path with its query. Symbols are capital letters and digits, so nothing needs escaping.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Ticker { symbol } => format!("/ticker/{symbol}"),
            Self::OrderBook { symbol, depth } => format!("/orderbook/{symbol}?depth={depth}"),
            Self::ExchangeInfo => "/exchange-info".to_owned(),
            Self::Candles { symbol, interval, limit } => format!("/candles/{symbol}?interval={interval}&limit={limit}"),
            Self::Indicator { symbol, kind, interval } => format!("/indicators/{symbol}/{kind}?interval={interval}"),
            Self::Preferences { user } => format!("/users/{user}/preferences"),
            Self::Positions { user } => format!("/users/{user}/positions"),
            Self::InvalidateSymbol { symbol } => format!("/invalidate/symbol/{symbol}"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}

/// Kinds of reads with the weight of each.
const KINDS: [(Kind, u32); 7] = [
    (Kind::Ticker, 30),
    (Kind::OrderBook, 15),
    (Kind::ExchangeInfo, 5),
    (Kind::Candles, 15),
    (Kind::Indicator, 20),
    (Kind::Preferences, 8),
    (Kind::Positions, 7),
];
const DEPTHS: [usize; 2] = [20, 50];
const LIMITS: [usize; 2] = [100, 200];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ticker,
    OrderBook,
    ExchangeInfo,
    Candles,
    Indicator,
    Preferences,
    Positions,
}

/// What a workload draws from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkloadOptions {
    /// Symbols with the intervals they are offered in, the most popular first.
    pub symbols: Vec<(String, Vec<Interval>)>,
    /// Users are numbered from 1 to this.
    pub users: u64,
    /// Exponent of Zipf's law; 0.99 by default.
    pub exponent: f64,
}

impl WorkloadOptions {
    /// Draws from these symbols, in these intervals, and from users 1 to `users`.
    #[must_use]
    pub fn new(symbols: Vec<(String, Vec<Interval>)>, users: u64) -> Self {
        Self { symbols, users, exponent: 0.99 }
    }

    /// Sets the exponent: the higher, the more the popular items stand out.
    #[must_use]
    pub fn with_exponent(mut self, exponent: f64) -> Self {
        self.exponent = exponent;
        self
    }
}

/// An endless stream of requests, the same for the same seed and options.
#[derive(Clone, Debug)]
pub struct Workload {
    options: WorkloadOptions,
    kinds: WeightedIndex<u32>,
    by_symbol: Popularity,
    by_user: Popularity,
    rng: Pcg64Mcg,
}

impl Workload {
    /// Starts the stream of `seed`.
    ///
    /// # Errors
    /// There are no symbols, a symbol has no interval, there are no users, or the exponent is negative or not finite.
    #[expect(clippy::missing_panics_doc, reason = "the weights of the kinds are constant and positive")]
    pub fn new(seed: u64, options: WorkloadOptions) -> Result<Self, BadPopularity> {
        let by_symbol = Popularity::new(options.symbols.len(), options.exponent)?;
        let by_user = Popularity::new(usize::try_from(options.users).unwrap_or(usize::MAX), options.exponent)?;
        for (_, intervals) in &options.symbols {
            Popularity::new(intervals.len(), options.exponent)?;
        }
        let kinds = WeightedIndex::new(KINDS.map(|(_, weight)| weight)).expect("the weights are positive");
        Ok(Self { options, kinds, by_symbol, by_user, rng: seeded::rng(seed, &["workload"]) })
    }

    /// All requests that the stream can hold, each once, the most popular symbols first: what is worth warming.
    #[must_use]
    pub fn catalogue(&self) -> Vec<Request> {
        let mut all = vec![Request::ExchangeInfo];
        for (symbol, intervals) in &self.options.symbols {
            let symbol = || symbol.clone();
            all.push(Request::Ticker { symbol: symbol() });
            all.extend(DEPTHS.map(|depth| Request::OrderBook { symbol: symbol(), depth }));
            for interval in intervals.iter().copied() {
                all.extend(LIMITS.map(|limit| Request::Candles { symbol: symbol(), interval, limit }));
                all.extend(IndicatorKind::ALL.map(|kind| Request::Indicator { symbol: symbol(), kind, interval }));
            }
        }
        all.extend((1..=self.options.users).map(|user| Request::Preferences { user }));
        all.extend((1..=self.options.users).map(|user| Request::Positions { user }));
        all
    }

    fn draw(&mut self) -> Request {
        let kind = KINDS[self.rng.sample(&self.kinds)].0;
        // Drawn for every kind, so that a request does not shift the symbols and users of those after it.
        let (symbol, intervals) = &self.options.symbols[self.by_symbol.draw(&mut self.rng)];
        let user = self.by_user.draw(&mut self.rng) as u64 + 1;
        let interval = intervals[self.rng.random_range(0..intervals.len())];
        let which = self.rng.random_range(0..6_usize);
        let symbol = symbol.clone();
        match kind {
            Kind::Ticker => Request::Ticker { symbol },
            Kind::OrderBook => Request::OrderBook { symbol, depth: DEPTHS[which % DEPTHS.len()] },
            Kind::ExchangeInfo => Request::ExchangeInfo,
            Kind::Candles => Request::Candles { symbol, interval, limit: LIMITS[which % LIMITS.len()] },
            Kind::Indicator => {
                Request::Indicator { symbol, kind: IndicatorKind::ALL[which % IndicatorKind::ALL.len()], interval }
            }
            Kind::Preferences => Request::Preferences { user },
            Kind::Positions => Request::Positions { user },
        }
    }
}

impl Iterator for Workload {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        Some(self.draw())
    }
}
