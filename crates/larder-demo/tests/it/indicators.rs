use std::{fs, path::Path};

use larder_demo::{
    candle::Candle,
    candles,
    indicators::{Bollinger, Indicator, Line, Macd, Rsi},
    interval::Interval,
};
use serde_json::Value;

use crate::reference::{own, shared};

const TOLERANCE: f64 = 1e-9;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn line(values: &Value) -> Line {
    values.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// A field of every row of a reference file.
fn field(rows: &Value, name: &str) -> Line {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row.get(name).unwrap_or_else(|| panic!("{name} is missing")).as_f64())
        .collect()
}

fn assert_agrees(name: &str, ours: &[Option<f64>], theirs: &[Option<f64>]) {
    assert_eq!(ours.len(), theirs.len(), "{name}: number of rows");
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        match (ours, theirs) {
            (None, None) => {}
            (Some(a), Some(b)) => assert!((a - b).abs() <= TOLERANCE, "{name}, row {row}: {a} against {b}"),
            _ => panic!("{name}, row {row}: {ours:?} against {theirs:?}"),
        }
    }
    assert!(theirs.iter().any(Option::is_some), "{name}: the reference holds no value");
}

fn default_closes() -> Option<Vec<f64>> {
    let path = shared("market/default.csv")?;
    Some(candles::load(path).unwrap().iter().map(|candle| candle.close).collect())
}

#[test]
fn all_indicators_agree_with_the_projects_own_reference() {
    let reference = json(&own("indicators.json"));
    let closes: Vec<f64> = line(&reference["closes"]).into_iter().map(Option::unwrap).collect();
    assert_agrees("rsi", &Rsi::default().compute(&closes), &line(&reference["rsi"]));
    let macd = Macd::default().compute(&closes);
    assert_agrees("macd", &macd.macd, &line(&reference["macd"]));
    assert_agrees("signal", &macd.signal, &line(&reference["signal"]));
    assert_agrees("histogram", &macd.histogram, &line(&reference["histogram"]));
    let bands = Bollinger::default().compute(&closes);
    assert_agrees("middle", &bands.middle, &line(&reference["middle"]));
    assert_agrees("upper", &bands.upper, &line(&reference["upper"]));
    assert_agrees("lower", &bands.lower, &line(&reference["lower"]));
}

#[test]
fn rsi_agrees_with_the_shared_reference_in_every_row() {
    let (Some(closes), Some(path)) = (default_closes(), shared("indicators/rsi.standard.json")) else { return };
    assert_agrees("rsi", &Rsi::default().compute(&closes), &field(&json(&path), "rsi"));
}

#[test]
fn macd_agrees_with_the_shared_reference_in_every_row() {
    let (Some(closes), Some(path)) = (default_closes(), shared("indicators/macd.standard.json")) else { return };
    let (lines, reference) = (Macd::default().compute(&closes), json(&path));
    assert_agrees("macd", &lines.macd, &field(&reference, "macd"));
    assert_agrees("signal", &lines.signal, &field(&reference, "signal"));
    assert_agrees("histogram", &lines.histogram, &field(&reference, "histogram"));
}

#[test]
fn bollinger_bands_agree_with_the_shared_reference_in_every_row() {
    let (Some(closes), Some(path)) = (default_closes(), shared("indicators/bb.standard.json")) else { return };
    let (bands, reference) = (Bollinger::default().compute(&closes), json(&path));
    assert_agrees("middle", &bands.middle, &field(&reference, "sma"));
    assert_agrees("upper", &bands.upper, &field(&reference, "upperBand"));
    assert_agrees("lower", &bands.lower, &field(&reference, "lowerBand"));
    assert_agrees("percent_b", &bands.percent_b, &field(&reference, "percentB"));
    assert_agrees("width", &bands.width, &field(&reference, "width"));
}

#[test]
fn a_series_has_one_value_a_candle_and_is_complete_after_its_warm_up() {
    let rows = 30;
    for indicator in
        [Indicator::Rsi(Rsi::default()), Indicator::Macd(Macd::default()), Indicator::Bollinger(Bollinger::default())]
    {
        let count = indicator.candles_for(rows);
        let series = candles::Series { seed: 5, symbol: "ETHUSDT", interval: Interval::Hour, revision: 0 };
        let candles: Vec<Candle> = series.generate(count);
        let answer = indicator.compute("ETHUSDT", Interval::Hour, &candles);
        assert_eq!(answer.indicator, indicator.kind());
        assert_eq!(answer.times.len(), count);
        for line in &answer.lines {
            assert_eq!(line.values.len(), count, "{}", line.name);
            assert!(line.values[count - rows..].iter().all(Option::is_some), "{}", line.name);
        }
        let whole = |values: &Vec<Option<f64>>| values[count - rows - 1].is_some();
        assert!(!answer.lines.iter().all(|line| whole(&line.values)), "the warm-up is no longer than needed");
    }
}
