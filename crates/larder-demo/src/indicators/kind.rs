//! The indicators by name.

use std::{error::Error, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Bollinger, Indicator, Macd, Rsi};

/// Which indicator, without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IndicatorKind {
    /// Relative strength index.
    Rsi,
    /// Moving average convergence and divergence.
    Macd,
    /// Bollinger bands.
    Bollinger,
}

impl IndicatorKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Rsi, Self::Macd, Self::Bollinger];

    /// The name in paths, keys and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsi => "rsi",
            Self::Macd => "macd",
            Self::Bollinger => "bollinger",
        }
    }

    /// The indicator with its usual parameters.
    #[must_use]
    pub fn with_defaults(self) -> Indicator {
        match self {
            Self::Rsi => Indicator::Rsi(Rsi::default()),
            Self::Macd => Indicator::Macd(Macd::default()),
            Self::Bollinger => Indicator::Bollinger(Bollinger::default()),
        }
    }
}

impl fmt::Display for IndicatorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIndicator {
    given: String,
}

impl fmt::Display for UnknownIndicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = IndicatorKind::ALL.map(IndicatorKind::as_str).join(", ");
        write!(f, "indicator {:?} is unknown; use one of {known}", self.given)
    }
}

impl Error for UnknownIndicator {}

impl FromStr for IndicatorKind {
    type Err = UnknownIndicator;

    fn from_str(text: &str) -> Result<Self, UnknownIndicator> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownIndicator { given: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::IndicatorKind;

    #[test]
    fn every_name_parses_and_belongs_to_the_indicator_it_makes() {
        for kind in IndicatorKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(kind.with_defaults().kind(), kind);
        }
        let error = "ema".parse::<IndicatorKind>().unwrap_err().to_string();
        assert_eq!(error, "indicator \"ema\" is unknown; use one of rsi, macd, bollinger");
    }
}
