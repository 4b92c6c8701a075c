use std::collections::{HashMap, HashSet};

use larder_demo::{
    interval::Interval,
    market::Market,
    workload::{Request, Workload, WorkloadOptions},
};

fn workload(seed: u64) -> Workload {
    let market = Market::generated(1);
    let symbols = market.symbols().iter().map(|symbol| (symbol.clone(), vec![Interval::Hour, Interval::Day])).collect();
    Workload::new(seed, WorkloadOptions::new(symbols, 50)).unwrap()
}

#[test]
fn a_seed_determines_the_stream() {
    let stream = |seed| workload(seed).take(500).collect::<Vec<_>>();
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
}

#[test]
fn everything_drawn_is_in_the_catalogue_and_reads_only() {
    let catalogue: HashSet<Request> = workload(1).catalogue().into_iter().collect();
    for request in workload(1).take(20_000) {
        assert!(catalogue.contains(&request), "{request}");
        assert_eq!(request.method(), "GET");
    }
    assert_eq!(catalogue.len(), workload(1).catalogue().len(), "the catalogue holds nothing twice");
}

#[test]
fn popular_symbols_and_all_kinds_of_requests_occur() {
    let mut tickers: HashMap<String, u32> = HashMap::new();
    let mut kinds: HashSet<String> = HashSet::new();
    for request in workload(3).take(20_000) {
        kinds.insert(request.path().split('/').nth(1).unwrap().split('?').next().unwrap().to_owned());
        if let Request::Ticker { symbol } = request {
            *tickers.entry(symbol).or_default() += 1;
        }
    }
    let expected = ["ticker", "orderbook", "exchange-info", "candles", "indicators", "users"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    assert!(tickers["BTCUSDT"] > 5 * tickers["FILUSDT"], "{tickers:?}");
}

#[test]
fn requests_render_as_method_and_path() {
    let symbol = || "BTCUSDT".to_owned();
    let shown = [
        Request::Ticker { symbol: symbol() },
        Request::OrderBook { symbol: symbol(), depth: 20 },
        Request::ExchangeInfo,
        Request::Candles { symbol: symbol(), interval: Interval::Hour, limit: 100 },
        Request::Preferences { user: 7 },
        Request::Positions { user: 7 },
        Request::InvalidateSymbol { symbol: symbol() },
    ]
    .map(|request| request.to_string());
    let expected = [
        "GET /ticker/BTCUSDT",
        "GET /orderbook/BTCUSDT?depth=20",
        "GET /exchange-info",
        "GET /candles/BTCUSDT?interval=1h&limit=100",
        "GET /users/7/preferences",
        "GET /users/7/positions",
        "POST /invalidate/symbol/BTCUSDT",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_workload_of_nothing_is_refused() {
    let hour = || vec![("A".to_owned(), vec![Interval::Hour])];
    assert!(Workload::new(1, WorkloadOptions::new(Vec::new(), 5)).is_err());
    assert!(Workload::new(1, WorkloadOptions::new(hour(), 0)).is_err());
    assert!(Workload::new(1, WorkloadOptions::new(vec![("A".to_owned(), Vec::new())], 5)).is_err());
    assert!(Workload::new(1, WorkloadOptions::new(hour(), 5).with_exponent(f64::NAN)).is_err());
    assert!(Workload::new(1, WorkloadOptions::new(hour(), 5)).is_ok());
}
