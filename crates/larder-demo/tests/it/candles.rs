use std::fs;

use larder_demo::{
    candle::check_all,
    candles::{self, CsvError, CsvFault},
    interval::Interval,
};

use crate::reference::shared;

const HEADER: &str = "date,open,high,low,close,volume\n";

fn error_of(text: &str) -> CsvError {
    candles::read(text.as_bytes()).unwrap_err()
}

/// What is said of a file whose second data row is `row`.
fn said_of(row: &str) -> String {
    error_of(&format!("{HEADER}2024-01-02,2,4,1,3,10\n{row}\n")).to_string()
}

#[test]
fn columns_may_stand_in_any_case_and_order_with_others_between() {
    let text = "Volume,CLOSE,Timestamp,note,Low,High,Open\n10,3,2024-01-02 09:30,hello,1,4,2\n";
    let candles = candles::read(text.as_bytes()).unwrap();
    let candle = candles[0];
    assert_eq!((candle.open, candle.high, candle.low, candle.close, candle.volume), (2.0, 4.0, 1.0, 3.0, 10.0));
    assert_eq!(candle.time.to_rfc3339(), "2024-01-02T09:30:00+00:00");
}

#[test]
fn a_byte_order_mark_windows_line_endings_and_blank_lines_are_accepted() {
    let text = "\u{feff}date,open,high,low,close,volume\r\n\r\n2024-01-02,2,4,1,3,10\r\n2024-01-03,2,4,1,3,10\r\n";
    assert_eq!(candles::read(text.as_bytes()).unwrap().len(), 2);
}

#[test]
fn dates_are_read_in_each_usual_form() {
    for date in ["2024-01-02", "2024-01-02 00:00", "2024-01-02 00:00:00", "2024-01-02T00:00", "2024-01-02T00:00:00Z"] {
        let candles = candles::read(format!("{HEADER}{date},2,4,1,3,10\n").as_bytes()).unwrap();
        assert_eq!(candles[0].time.to_rfc3339(), "2024-01-02T00:00:00+00:00", "{date}");
    }
    let zoned = candles::read(format!("{HEADER}2024-01-02T02:00:00+02:00,2,4,1,3,10\n").as_bytes()).unwrap();
    assert_eq!(zoned[0].time.to_rfc3339(), "2024-01-02T00:00:00+00:00");
}

#[test]
fn a_bad_row_is_named_by_line_and_reason() {
    assert_eq!(said_of("2024-01-03,2,x,1,3,10"), "line 3: high \"x\" is not a number");
    assert_eq!(said_of("2024-01-03,2,4,1,,10"), "line 3: close \"\" is not a number");
    assert_eq!(said_of("2024-01-03,2,4,1,3"), "line 3: the row has 5 fields, the header 6");
    assert_eq!(said_of("2024-01-03,2,1,4,3,10"), "line 3: high 1 is below low 4");
    assert_eq!(said_of("2024-01-03,2,inf,1,3,10"), "line 3: high is inf; a finite number is needed");
    assert_eq!(said_of("2024-01-03,2,4,1,NaN,10"), "line 3: close is NaN; a finite number is needed");
    assert_eq!(said_of("2024-01-03,2,4,1,9,10"), "line 3: close 9 is not between low 1 and high 4");
    assert_eq!(said_of("2024-01-03,2,4,1,3,-1"), "line 3: volume is -1; it must not be negative");
    assert_eq!(
        said_of("03/01/2024,2,4,1,3,10"),
        "line 3: date \"03/01/2024\" is not of the form 2024-12-31, 2024-12-31 09:30 or 2024-12-31T09:30:00Z"
    );
    assert_eq!(
        said_of("2024-01-02,2,4,1,3,10"),
        "line 3: date 2024-01-02 00:00:00 occurs twice; each candle needs its own"
    );
    assert_eq!(
        said_of("2024-01-01,2,4,1,3,10"),
        "line 3: date 2024-01-01 00:00:00 is before 2024-01-02 00:00:00 of the row above; sort rows by date, oldest first"
    );
}

#[test]
fn blank_lines_and_quoted_fields_count_towards_the_line() {
    let blank = error_of(&format!("{HEADER}2024-01-02,2,4,1,3,10\n\n\n2024-01-03,2,4,1,x,10\n"));
    assert_eq!(blank.line(), Some(5));
    let windows = error_of("date,open,high,low,close,volume\r\n2024-01-02,2,4,1,3,10\r\n\r\n2024-01-03,2,4,1,x,10\r\n");
    assert_eq!(windows.line(), Some(4));
    let unfinished = error_of(&format!("{HEADER}2024-01-02,2,4,1,3,10\n2024-01-03,2,4,1,x,10"));
    assert_eq!(unfinished.line(), Some(3));
    let short = error_of(&format!("{HEADER}2024-01-02,2,4,1,3,10\n\n\n2024-01-03,2\n"));
    assert_eq!(short.line(), Some(5));
}

#[test]
fn a_row_that_is_not_text_is_named_by_its_line() {
    let mut bytes = format!("{HEADER}2024-01-02,2,4,1,3,10\n").into_bytes();
    bytes.extend_from_slice(b"2024-01-03,2,4,1,\xff,10\n");
    let error = candles::read(bytes.as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "line 3: the row is not UTF-8 text");
}

#[test]
fn an_empty_file_and_one_without_rows_say_so() {
    assert_eq!(*error_of("").fault(), CsvFault::Empty);
    assert_eq!(*error_of("\u{feff}").fault(), CsvFault::Empty);
    assert_eq!(*error_of(HEADER).fault(), CsvFault::NoRows);
}

#[test]
fn a_missing_or_repeated_column_is_named() {
    assert_eq!(
        error_of("date,open,high,low,volume\n2024-01-02,2,4,1,10\n").to_string(),
        "line 1: column close is missing; the header has date,open,high,low,volume"
    );
    assert_eq!(
        error_of("date,open,high,low,close,Close,volume\n").to_string(),
        "line 1: column close occurs twice; the header has date,open,high,low,close,Close,volume"
    );
}

#[test]
fn errors_of_a_file_begin_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.csv");
    fs::write(&path, format!("{HEADER}2024-01-02,2,1,4,3,10\n")).unwrap();
    let error = candles::load(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: line 2: high 1 is below low 4", path.display()));
    let absent = candles::load(folder.path().join("absent.csv")).unwrap_err();
    assert!(absent.to_string().contains("absent.csv: cannot be read: "), "{absent}");
}

#[test]
fn the_shared_market_files_load_whole() {
    for (name, rows, interval) in [
        ("market/bitcoin.csv", 1_246, Interval::Day),
        ("market/default.csv", 502, Interval::Day),
        ("market/intraday.csv", 1_564, Interval::Minute),
    ] {
        let Some(path) = shared(name) else { continue };
        let candles = candles::load(path).unwrap();
        assert_eq!(candles.len(), rows, "{name}");
        assert_eq!(check_all(&candles), Ok(()), "{name}");
        assert_eq!(Interval::of(&candles), Some(interval), "{name}");
    }
}
