use larder_demo::{
    candle::{Candle, check_all},
    candles::Series,
    interval::Interval,
    market::{Market, MarketError, NotOffered},
};

fn loaded(interval: Interval, count: usize) -> Vec<Candle> {
    Series { seed: 77, symbol: "LOADED", interval, revision: 0 }.generate(count)
}

#[test]
fn answers_depend_on_seed_symbol_and_revision_and_on_nothing_else() {
    let answer = |seed, symbol: &str, revision| {
        let market = Market::generated(seed);
        (market.ticker(symbol, revision).unwrap(), market.order_book(symbol, 10, revision).unwrap())
    };
    let base = answer(1, "BTCUSDT", 0);
    assert_eq!(answer(1, "BTCUSDT", 0), base);
    for other in [answer(2, "BTCUSDT", 0), answer(1, "ETHUSDT", 0), answer(1, "BTCUSDT", 1)] {
        assert_ne!(other.0.last, base.0.last);
        assert_ne!(other.1.bids, base.1.bids);
    }
}

#[test]
fn the_set_of_symbols_does_not_change_a_symbols_answers() {
    let small = Market::of_symbols(1, ["ETHUSDT"]).unwrap();
    assert_eq!(small.ticker("ETHUSDT", 3), Market::generated(1).ticker("ETHUSDT", 3));
}

#[test]
fn ticker_order_book_and_candles_agree() {
    let market = Market::generated(4).with_candles("LOADED", &loaded(Interval::Day, 60)).unwrap();
    for symbol in market.symbols() {
        for revision in [0, 1, 9] {
            let ticker = market.ticker(symbol, revision).unwrap();
            let book = market.order_book(symbol, 100, revision).unwrap();
            assert_eq!((ticker.bid, ticker.ask), (book.bids[0].price, book.asks[0].price));
            assert!(ticker.bid < ticker.last && ticker.last < ticker.ask, "{ticker:?}");
            assert!(book.bids.windows(2).all(|pair| pair[0].price > pair[1].price));
            assert!(book.asks.windows(2).all(|pair| pair[0].price < pair[1].price));
            for interval in market.intervals(symbol).unwrap() {
                let candles = market.candles(symbol, interval, 5, revision).unwrap();
                assert_eq!(candles.last().unwrap().close, ticker.last, "{symbol} {interval} {revision}");
            }
        }
    }
}

#[test]
fn a_shallow_book_is_the_top_of_a_deep_one() {
    let market = Market::generated(1);
    let (deep, shallow) = (market.order_book("BTCUSDT", 50, 2).unwrap(), market.order_book("BTCUSDT", 5, 2).unwrap());
    assert_eq!((&deep.bids[..5], &deep.asks[..5]), (&shallow.bids[..], &shallow.asks[..]));
}

#[test]
fn loaded_candles_are_answered_as_they_are_and_merged_into_longer_ones() {
    let candles = loaded(Interval::Hour, 300);
    let market = Market::generated(1).with_candles("LOADED", &candles).unwrap();
    assert_eq!(market.symbols()[0], "LOADED");
    assert_eq!(market.candles("LOADED", Interval::Hour, 1_000, 0).unwrap(), candles);
    assert_eq!(market.candles("LOADED", Interval::Hour, 10, 0).unwrap(), candles[290..]);
    let days = market.candles("LOADED", Interval::Day, 1_000, 0).unwrap();
    assert_eq!(check_all(&days), Ok(()));
    assert_eq!(days.len(), 14);
    let error = market.candles("LOADED", Interval::Minute, 10, 0).unwrap_err();
    assert_eq!(error.to_string(), "LOADED has no candles of 1m; use one of 1h, 4h, 1d, 1w");
}

#[test]
fn a_revision_of_loaded_candles_changes_the_newest_candle_of_every_interval_and_no_other() {
    let market = Market::generated(1).with_candles("LOADED", &loaded(Interval::Hour, 310)).unwrap();
    for interval in market.intervals("LOADED").unwrap() {
        let at = |revision| market.candles("LOADED", interval, 1_000, revision).unwrap();
        let (before, after) = (at(0), at(1));
        let rest = before.len() - 1;
        assert_eq!(before[..rest], after[..rest], "{interval}");
        assert_ne!(before[rest], after[rest], "{interval}");
        assert_eq!(before[rest].time, after[rest].time, "{interval}");
        assert_eq!(check_all(&after), Ok(()), "{interval}");
    }
}

#[test]
fn the_info_lists_every_symbol_with_its_intervals() {
    let market = Market::generated(1).with_candles("LOADED", &loaded(Interval::Day, 30)).unwrap();
    let info = market.info();
    assert_eq!(info.symbols.len(), 17);
    assert_eq!(info.symbols[0].intervals, [Interval::Day, Interval::Week]);
    assert_eq!(info.symbols[1].intervals, Interval::ALL);
    assert_eq!(info, market.info());
}

#[test]
fn what_no_market_can_be_made_of_is_named() {
    let none: [&str; 0] = [];
    assert_eq!(Market::of_symbols(1, none).unwrap_err(), MarketError::NoSymbols);
    assert!(matches!(Market::of_symbols(1, ["A", "A"]), Err(MarketError::DuplicateSymbol { .. })));
    for bad in ["", "btcusdt", "BTC/USDT", "A*", "ABCDEFGHIJKLMNOPQRSTU"] {
        assert!(matches!(Market::of_symbols(1, [bad]), Err(MarketError::BadSymbol { .. })), "{bad}");
    }
    let one = loaded(Interval::Day, 1);
    assert!(matches!(Market::generated(1).with_candles("A", &one), Err(MarketError::NoInterval { .. })));
    let mut unsound = loaded(Interval::Day, 3);
    unsound[1].high = f64::NAN;
    let error = Market::generated(1).with_candles("A", &unsound).unwrap_err().to_string();
    assert_eq!(error, "candle 1 of A: high is NaN; a finite number is needed");
    assert!(matches!(Market::generated(1).ticker("NONE", 0), Err(NotOffered::Symbol { .. })));
}
