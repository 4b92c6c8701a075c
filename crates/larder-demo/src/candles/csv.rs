//! Candles from a CSV file, as exchanges and data sets publish them.
//!
//! The first row names the columns, in any case and order; more columns than the six are ignored. A byte order mark
//! and both line endings are accepted. Every row is checked: the error names the file, the line and the reason, since a
//! candle that is silently skipped shows up much later, as an indicator that is wrong.

use std::{
    error::Error,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use csv::StringRecord;

use crate::candle::{Candle, CandleFault};

const DATE_NAMES: &[&str] = &["date", "time", "datetime", "timestamp"];
const DATE_TIME_FORMATS: [&str; 4] =
    ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];

/// Loads the candles of a file. The whole file is held in memory.
///
/// # Errors
/// The file cannot be read, has no header or no rows, lacks a column, or a row is bad; see [`CsvFault`].
pub fn load(path: impl AsRef<Path>) -> Result<Vec<Candle>, CsvError> {
    let path = path.as_ref();
    let in_file = |error: CsvError| CsvError { file: Some(path.to_owned()), ..error };
    let file = File::open(path).map_err(|error| in_file(CsvError::whole(CsvFault::Unreadable(error.to_string()))))?;
    read(file).map_err(in_file)
}

/// Reads candles from any source of CSV text, which is held in memory as a whole.
///
/// # Errors
/// As [`load`], with no file in the error.
pub fn read(mut source: impl io::Read) -> Result<Vec<Candle>, CsvError> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|error| CsvError::whole(CsvFault::Unreadable(error.to_string())))?;
    let text = str::from_utf8(&bytes).map_err(|error| CsvError {
        file: None,
        line: Some(line_of(&bytes, error.valid_up_to())),
        fault: CsvFault::NotText,
    })?;
    parse(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn parse(text: &str) -> Result<Vec<Candle>, CsvError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| malformed(text, &error))?.clone();
    if headers.iter().all(str::is_empty) {
        return Err(CsvError::whole(CsvFault::Empty));
    }
    let columns = Columns::find(&headers)?;
    let mut candles: Vec<Candle> = Vec::new();
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| malformed(text, &error))? {
        let candle = row(&columns, &record, candles.last()).map_err(|fault| CsvError {
            file: None,
            line: record.position().map(|at| line_at(text, at)),
            fault,
        })?;
        candles.push(candle);
    }
    if candles.is_empty() {
        return Err(CsvError::whole(CsvFault::NoRows));
    }
    Ok(candles)
}

fn row(columns: &Columns, record: &StringRecord, previous: Option<&Candle>) -> Result<Candle, CsvFault> {
    let candle = columns.candle(record)?;
    candle.check().map_err(CsvFault::Candle)?;
    if let Some(previous) = previous {
        candle.check_after(previous).map_err(CsvFault::Candle)?;
    }
    Ok(candle)
}

/// The line of a record. The reader's own count is not used: it places a record where the one before it ended, ahead of
/// blank lines and, with Windows line endings, within the line above.
fn line_at(text: &str, position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX).min(text.len());
    let blank = text.as_bytes()[start..].iter().take_while(|byte| matches!(**byte, b'\r' | b'\n')).count();
    line_of(text.as_bytes(), start + blank)
}

fn line_of(bytes: &[u8], offset: usize) -> u64 {
    bytes.iter().take(offset).fold(1, |line, byte| line + u64::from(*byte == b'\n'))
}

/// Where in a row each field stands.
struct Columns {
    date: usize,
    open: usize,
    high: usize,
    low: usize,
    close: usize,
    volume: usize,
}

impl Columns {
    fn find(headers: &StringRecord) -> Result<Self, CsvError> {
        let column = |name: &'static str, accepted: &[&str]| {
            let mut hits = headers
                .iter()
                .enumerate()
                .filter(|(_, header)| accepted.iter().any(|name| header.eq_ignore_ascii_case(name)))
                .map(|(index, _)| index);
            let at_header = |fault| CsvError { file: None, line: Some(1), fault };
            let found = || headers.iter().map(str::to_owned).collect();
            let first =
                hits.next().ok_or_else(|| at_header(CsvFault::MissingColumn { column: name, found: found() }))?;
            match hits.next() {
                None => Ok(first),
                Some(_) => Err(at_header(CsvFault::AmbiguousColumn { column: name, found: found() })),
            }
        };
        Ok(Self {
            date: column("date", DATE_NAMES)?,
            open: column("open", &["open"])?,
            high: column("high", &["high"])?,
            low: column("low", &["low"])?,
            close: column("close", &["close"])?,
            volume: column("volume", &["volume"])?,
        })
    }

    fn candle(&self, record: &StringRecord) -> Result<Candle, CsvFault> {
        let field = |index: usize| record.get(index).unwrap_or_default();
        let number = |column: &'static str, index: usize| {
            field(index).parse::<f64>().map_err(|_| CsvFault::BadNumber { column, value: field(index).to_owned() })
        };
        Ok(Candle {
            time: date(field(self.date)).ok_or_else(|| CsvFault::BadDate { value: field(self.date).to_owned() })?,
            open: number("open", self.open)?,
            high: number("high", self.high)?,
            low: number("low", self.low)?,
            close: number("close", self.close)?,
            volume: number("volume", self.volume)?,
        })
    }
}

/// A date, with or without time; without a zone it is UTC.
fn date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(NaiveTime::MIN).and_utc());
    }
    DATE_TIME_FORMATS
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc())
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()))
}

fn malformed(text: &str, error: &csv::Error) -> CsvError {
    let line = error.position().map(|at| line_at(text, at));
    let fault = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            CsvFault::FieldCount { expected: *expected_len, found: *len }
        }
        _ => CsvFault::Unreadable(error.to_string()),
    };
    CsvError { file: None, line, fault }
}

/// Why candles could not be read: the file, the line and the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvError {
    file: Option<PathBuf>,
    line: Option<u64>,
    fault: CsvFault,
}

impl CsvError {
    fn whole(fault: CsvFault) -> Self {
        Self { file: None, line: None, fault }
    }

    /// The file, if the candles came from one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line, counted from 1 and including the header and blank lines; `None` if the file as a whole is at fault.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// The reason.
    #[must_use]
    pub fn fault(&self) -> &CsvFault {
        &self.fault
    }
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        self.fault.fmt(f)
    }
}

impl Error for CsvError {}

/// What is wrong with a file of candles or one of its rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CsvFault {
    /// The file could not be opened or read; the operating system's or parser's words.
    Unreadable(String),
    /// A row is not UTF-8.
    NotText,
    /// The file holds nothing, not even a header.
    Empty,
    /// The file holds a header and no rows.
    NoRows,
    /// The header lacks a column.
    MissingColumn {
        /// The column.
        column: &'static str,
        /// The header's columns.
        found: Vec<String>,
    },
    /// The header has a column twice.
    AmbiguousColumn {
        /// The column.
        column: &'static str,
        /// The header's columns.
        found: Vec<String>,
    },
    /// A row has more or fewer fields than the header.
    FieldCount {
        /// Fields of the header.
        expected: u64,
        /// Fields of the row.
        found: u64,
    },
    /// A price or the volume is not a number.
    BadNumber {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// The date is not one.
    BadDate {
        /// What stands there.
        value: String,
    },
    /// The row reads well and is not a candle, or does not follow the one before.
    Candle(CandleFault),
}

impl fmt::Display for CsvFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Self::NotText => f.write_str("the row is not UTF-8 text"),
            Self::Empty => f.write_str("the file is empty; a header with date,open,high,low,close,volume is needed"),
            Self::NoRows => f.write_str("the file has a header and no rows"),
            Self::MissingColumn { column, found } => {
                write!(f, "column {column} is missing; the header has {}", found.join(","))
            }
            Self::AmbiguousColumn { column, found } => {
                write!(f, "column {column} occurs twice; the header has {}", found.join(","))
            }
            Self::FieldCount { expected, found } => write!(f, "the row has {found} fields, the header {expected}"),
            Self::BadNumber { column, value } => write!(f, "{column} {value:?} is not a number"),
            Self::BadDate { value } => {
                write!(f, "date {value:?} is not of the form 2024-12-31, 2024-12-31 09:30 or 2024-12-31T09:30:00Z")
            }
            Self::Candle(fault) => fault.fmt(f),
        }
    }
}
