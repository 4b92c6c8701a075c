//! The instruments and everything that the exchange knows about them, as pure functions.
//!
//! Every answer depends on the seed, the symbol and its revision. A symbol's candles are generated, or loaded from
//! elsewhere; a revision redraws the newest candle either way, and ticker and order book follow from it.

mod error;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use rand::RngExt as _;

pub use self::error::{MarketError, NotOffered};
use crate::{
    candle::{Candle, check_all},
    candles::{Series, TICK, redraw_last, resample, rounded},
    interval::Interval,
    model::{ExchangeInfo, Level, OrderBook, SymbolInfo, Ticker},
    seeded,
};

/// The most candles that one answer holds.
pub const MOST_CANDLES: usize = 1_000;
/// The deepest order book, in levels a side.
pub const DEEPEST_BOOK: usize = 100;
/// The longest symbol, in characters.
const LONGEST_SYMBOL: usize = 20;
/// The symbols of a market that is given none, the most popular first.
const SYMBOLS: [&str; 16] = [
    "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT", "AVAXUSDT", "LINKUSDT", "DOTUSDT",
    "LTCUSDT", "TRXUSDT", "UNIUSDT", "ATOMUSDT", "NEARUSDT", "FILUSDT",
];

/// A market of some symbols.
#[derive(Clone)]
pub struct Market {
    seed: u64,
    symbols: Vec<String>,
    /// Candles of the symbols that are not generated, by interval, the shortest first.
    loaded: HashMap<String, BTreeMap<Interval, Vec<Candle>>>,
}

impl Market {
    /// A generated market of sixteen symbols.
    #[must_use]
    pub fn generated(seed: u64) -> Self {
        Self { seed, symbols: SYMBOLS.map(str::to_owned).to_vec(), loaded: HashMap::new() }
    }

    /// A generated market of the given symbols, the most popular first.
    ///
    /// # Errors
    /// There is none, one is given twice, or one is not made of 1 to 20 capital letters and digits.
    pub fn of_symbols<S: Into<String>>(seed: u64, symbols: impl IntoIterator<Item = S>) -> Result<Self, MarketError> {
        let mut market = Self { seed, symbols: Vec::new(), loaded: HashMap::new() };
        for symbol in symbols {
            let symbol = checked(symbol.into())?;
            if market.symbols.contains(&symbol) {
                return Err(MarketError::DuplicateSymbol { symbol });
            }
            market.symbols.push(symbol);
        }
        if market.symbols.is_empty() {
            return Err(MarketError::NoSymbols);
        }
        Ok(market)
    }

    /// Puts a symbol with candles of its own in first place, or gives an existing symbol these candles.
    ///
    /// Their interval is found from their times; longer intervals are merged from them, shorter ones not offered.
    ///
    /// # Errors
    /// The symbol is malformed, a candle is not sound, or the candles have no recognizable interval.
    pub fn with_candles(mut self, symbol: impl Into<String>, candles: &[Candle]) -> Result<Self, MarketError> {
        let symbol = checked(symbol.into())?;
        check_all(candles).map_err(|(index, fault)| MarketError::BadCandle { symbol: symbol.clone(), index, fault })?;
        let base = Interval::of(candles).ok_or_else(|| MarketError::NoInterval { symbol: symbol.clone() })?;
        let mut by_interval = BTreeMap::from([(base, candles.to_vec())]);
        for longer in Interval::ALL.into_iter().filter(|interval| *interval > base) {
            by_interval.insert(longer, resample(candles, longer));
        }
        if !self.symbols.contains(&symbol) {
            self.symbols.insert(0, symbol.clone());
        }
        self.loaded.insert(symbol, by_interval);
        Ok(self)
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The symbols, the most popular first.
    #[must_use]
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// Whether `symbol` is traded here.
    #[must_use]
    pub fn has(&self, symbol: &str) -> bool {
        self.symbols.iter().any(|known| known == symbol)
    }

    /// The intervals that candles of `symbol` are offered in, the shortest first.
    ///
    /// # Errors
    /// The symbol is not traded here.
    pub fn intervals(&self, symbol: &str) -> Result<Vec<Interval>, NotOffered> {
        if !self.has(symbol) {
            return Err(NotOffered::Symbol { symbol: symbol.to_owned() });
        }
        Ok(self.loaded.get(symbol).map_or_else(|| Interval::ALL.to_vec(), |loaded| loaded.keys().copied().collect()))
    }

    /// The newest `limit` candles, the oldest first; fewer if there are not as many, and never more than
    /// [`MOST_CANDLES`].
    ///
    /// # Errors
    /// The symbol is not traded here, or not in this interval.
    pub fn candles(
        &self,
        symbol: &str,
        interval: Interval,
        limit: usize,
        revision: u64,
    ) -> Result<Vec<Candle>, NotOffered> {
        let offered = self.intervals(symbol)?;
        if !offered.contains(&interval) {
            return Err(NotOffered::Interval { symbol: symbol.to_owned(), interval, offered });
        }
        let limit = limit.min(MOST_CANDLES);
        Ok(match self.loaded.get(symbol) {
            None => Series { seed: self.seed, symbol, interval, revision }.generate(limit),
            Some(loaded) => self.newest_loaded(symbol, loaded, interval, limit, revision),
        })
    }

    fn newest_loaded(
        &self,
        symbol: &str,
        loaded: &BTreeMap<Interval, Vec<Candle>>,
        interval: Interval,
        limit: usize,
        revision: u64,
    ) -> Vec<Candle> {
        let all = loaded.get(&interval).map(Vec::as_slice).unwrap_or_default();
        let mut newest = all[all.len().saturating_sub(limit)..].to_vec();
        let (Some(last), Some((base, shortest))) = (newest.last_mut(), loaded.first_key_value()) else { return newest };
        if revision > 0 {
            // The redrawn candle is one of the shortest; the longer one that holds it is merged again.
            let start = if *base == interval { last.time } else { interval.start_of(last.time) };
            let mut part = shortest[shortest.partition_point(|candle| candle.time < start)..].to_vec();
            redraw_last(&mut part, self.seed, symbol, revision);
            let merged = if *base == interval { part } else { resample(&part, interval) };
            if let Some(redrawn) = merged.last() {
                *last = *redrawn;
            }
        }
        newest
    }

    /// The newest prices of a symbol.
    ///
    /// # Errors
    /// The symbol is not traded here.
    pub fn ticker(&self, symbol: &str, revision: u64) -> Result<Ticker, NotOffered> {
        let newest = self.newest(symbol, revision)?;
        let book = self.book_around(symbol, newest.close, 1, revision);
        Ok(Ticker {
            symbol: symbol.to_owned(),
            last: newest.close,
            bid: book.bids[0].price,
            ask: book.asks[0].price,
            high: newest.high,
            low: newest.low,
            volume: newest.volume,
            revision,
        })
    }

    /// The `depth` best levels of either side, at least one and at most [`DEEPEST_BOOK`]. A shallow book is the top of a
    /// deep one.
    ///
    /// # Errors
    /// The symbol is not traded here.
    pub fn order_book(&self, symbol: &str, depth: usize, revision: u64) -> Result<OrderBook, NotOffered> {
        let newest = self.newest(symbol, revision)?;
        Ok(self.book_around(symbol, newest.close, depth.clamp(1, DEEPEST_BOOK), revision))
    }

    /// What can be traded.
    #[must_use]
    pub fn info(&self) -> ExchangeInfo {
        let symbol_info = |symbol: &String| SymbolInfo {
            symbol: symbol.clone(),
            tick_size: TICK,
            lot_size: [0.001, 0.01, 0.1][seeded::rng(self.seed, &["lot", symbol]).random_range(0..3)],
            intervals: self.intervals(symbol).unwrap_or_default(),
        };
        ExchangeInfo { exchange: "larder-demo".to_owned(), symbols: self.symbols.iter().map(symbol_info).collect() }
    }

    /// The newest candle of the shortest loaded interval, or of an hour.
    fn newest(&self, symbol: &str, revision: u64) -> Result<Candle, NotOffered> {
        let interval = match self.loaded.get(symbol).and_then(BTreeMap::first_key_value) {
            Some((base, _)) => *base,
            None => Interval::Hour,
        };
        let newest = self.candles(symbol, interval, 1, revision)?;
        Ok(*newest.first().expect("generated and loaded candles are never none, since an interval was found"))
    }

    fn book_around(&self, symbol: &str, last: f64, depth: usize, revision: u64) -> OrderBook {
        let mut rng = seeded::rng(self.seed, &["book", symbol, &revision.to_string()]);
        let step = (last * 0.000_02).max(TICK);
        let (mut bid, mut ask) = (last, last);
        let mut book = OrderBook { symbol: symbol.to_owned(), bids: Vec::new(), asks: Vec::new(), revision };
        for _ in 0..depth {
            bid = rounded(bid - step * rng.random_range(1.0..4.0));
            book.bids.push(Level { price: bid, quantity: rounded(rng.random_range(0.01..10.0)) });
            ask = rounded(ask + step * rng.random_range(1.0..4.0));
            book.asks.push(Level { price: ask, quantity: rounded(rng.random_range(0.01..10.0)) });
        }
        book
    }
}

impl fmt::Debug for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Market").field("seed", &self.seed).field("symbols", &self.symbols).finish_non_exhaustive()
    }
}

fn checked(symbol: String) -> Result<String, MarketError> {
    let fits = (1..=LONGEST_SYMBOL).contains(&symbol.len());
    if fits && symbol.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        Ok(symbol)
    } else {
        Err(MarketError::BadSymbol { symbol })
    }
}
