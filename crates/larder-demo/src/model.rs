//! What the exchange, the database and the service answer with.
//!
//! All of it can be cloned, compared and written by any serde format that keeps field names or their order.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{indicators::IndicatorKind, interval::Interval};

/// The newest prices of a symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticker {
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: String,
    /// Price of the last trade.
    pub last: f64,
    /// Highest price that a buyer offers.
    pub bid: f64,
    /// Lowest price that a seller asks.
    pub ask: f64,
    /// Highest price of the newest candle.
    pub high: f64,
    /// Lowest price of the newest candle.
    pub low: f64,
    /// Amount traded in the newest candle, in units of the base asset.
    pub volume: f64,
    /// Revision of the symbol that the prices belong to.
    pub revision: u64,
}

/// One price of an order book, with all that is on offer there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Price of one unit.
    pub price: f64,
    /// Units on offer.
    pub quantity: f64,
}

/// Open orders of a symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderBook {
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: String,
    /// What buyers offer, the highest price first.
    pub bids: Vec<Level>,
    /// What sellers ask, the lowest price first.
    pub asks: Vec<Level>,
    /// Revision of the symbol that the book belongs to.
    pub revision: u64,
}

/// What can be traded, and under which rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeInfo {
    /// Name of the exchange.
    pub exchange: String,
    /// Its symbols, in the order of their popularity.
    pub symbols: Vec<SymbolInfo>,
}

/// Trading rules of one symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymbolInfo {
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: String,
    /// Smallest difference of two prices.
    pub tick_size: f64,
    /// Smallest amount that can be traded.
    pub lot_size: f64,
    /// Intervals that candles are offered in.
    pub intervals: Vec<Interval>,
}

/// An indicator over the candles of a symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndicatorSeries {
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: String,
    /// Interval of the candles.
    pub interval: Interval,
    /// Which indicator.
    pub indicator: IndicatorKind,
    /// Start of each candle, the oldest first.
    pub times: Vec<DateTime<Utc>>,
    /// The indicator's lines, each as long as `times`.
    pub lines: Vec<IndicatorLine>,
}

/// One line of an indicator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndicatorLine {
    /// Name of the line, e.g. `signal`.
    pub name: String,
    /// One value a candle; `None` while the indicator warms up.
    pub values: Vec<Option<f64>>,
}

/// What a user has set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preferences {
    /// Number of the user.
    pub user_id: u64,
    /// Settings by name; any JSON value.
    pub values: BTreeMap<String, Value>,
}

/// Which way a position earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Side {
    /// Earns when the price rises.
    Long,
    /// Earns when the price falls.
    Short,
}

/// An open position of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the position.
    pub id: u64,
    /// Number of the user.
    pub user_id: u64,
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: String,
    /// Long or short.
    pub side: Side,
    /// Units held; positive on both sides.
    pub quantity: f64,
    /// Price at which it was opened.
    pub entry_price: f64,
    /// When it was opened.
    pub opened: DateTime<Utc>,
}
