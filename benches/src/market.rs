//! What a trading service stores: a ticker and candles, made up but of the usual shape.

use serde::{Deserialize, Serialize};

/// The last 24 hours of a symbol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of any exchange's interface")]
pub struct Ticker {
    pub symbol: String,
    pub last_price: f64,
    pub bid_price: f64,
    pub ask_price: f64,
    pub price_change: f64,
    pub price_change_percent: f64,
    pub high_price: f64,
    pub low_price: f64,
    pub volume: f64,
    pub quote_volume: f64,
    pub open_time: u64,
    pub close_time: u64,
    pub trades: u64,
}

/// One interval of a symbol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of any exchange's interface")]
pub struct Candle {
    pub open_time: u64,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: f64,
}

/// A ticker.
#[must_use]
pub fn ticker() -> Ticker {
    Ticker {
        symbol: "BTCUSDT".into(),
        last_price: 64_213.57,
        bid_price: 64_213.56,
        ask_price: 64_213.57,
        price_change: -812.43,
        price_change_percent: -1.249,
        high_price: 65_410.0,
        low_price: 63_577.91,
        volume: 28_114.503_71,
        quote_volume: 1_813_404_271.283_5,
        open_time: 1_717_200_000_000,
        close_time: 1_717_286_400_000,
        trades: 1_372_118,
    }
}

/// Candles of an hour each, whose prices walk as prices do: to the cent, up and down.
#[must_use]
pub fn candles(count: u32) -> Vec<Candle> {
    let cents = |amount: f64| (amount * 100.0).round() / 100.0;
    let mut price = 64_000.0;
    let candle = |hour: u32| {
        let phase = f64::from(hour);
        let open = price;
        price = cents(open + 180.0 * (phase * 0.37).sin() + 55.0 * (phase * 1.7).cos());
        Candle {
            open_time: 1_717_200_000_000 + u64::from(hour) * 3_600_000,
            open,
            high: cents(open.max(price) + 20.0 + 11.0 * (phase * 2.3).sin()),
            low: cents(open.min(price) - 20.0 - 9.0 * (phase * 2.9).cos()),
            close: price,
            volume: (1000.0 + 400.0 * (phase * 0.9).sin() * 1e5).round() / 1e5,
        }
    };
    (0..count).map(candle).collect()
}
