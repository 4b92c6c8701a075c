//! A line of the result, and the bound that it is held to.

use serde::Serialize;

use crate::contest::Series;

/// What a row is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// Nothing: the row is for information.
    None,
    /// At most so many times the baseline.
    RatioAtMost(f64),
    /// At least so many times the baseline.
    RatioAtLeast(f64),
    /// At most so much, whatever the baseline does.
    FigureAtMost(f64),
}

/// One measurement beside its baseline, as it stands in `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) larder: f64,
    pub(crate) baseline: f64,
    pub(crate) baseline_name: String,
    pub(crate) unit: &'static str,
    /// Larder's figure divided by the baseline's; none where the baseline is 0.
    pub(crate) ratio: Option<f64>,
    /// The bound; of the ratio, or of Larder's own figure where there is no ratio.
    pub(crate) budget: Option<f64>,
    /// Whether the bound is kept; none without a bound.
    pub(crate) holds: Option<bool>,
    #[serde(skip)]
    pub(crate) bound: Bound,
}

/// On which side of its budget a row has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    None,
    AtMost,
    AtLeast,
}

impl Row {
    /// A row from two contestants of the same rounds.
    pub(crate) fn compare(
        name: impl Into<String>,
        unit: &'static str,
        larder: &Series,
        baseline: &Series,
        budget: Budget,
    ) -> Self {
        let ratio = larder.ratio_to(baseline);
        let ratio = ratio.is_finite().then_some(ratio);
        Self::of(name.into(), unit, larder.median(), (baseline.median(), baseline.name.clone()), ratio, budget)
    }

    /// A row from two figures that do not vary, such as sizes.
    pub(crate) fn figures(
        name: impl Into<String>,
        unit: &'static str,
        larder: f64,
        (baseline, baseline_name): (f64, &str),
        budget: Budget,
    ) -> Self {
        let ratio = (baseline != 0.0).then(|| larder / baseline);
        Self::of(name.into(), unit, larder, (baseline, baseline_name.to_owned()), ratio, budget)
    }

    fn of(
        name: String,
        unit: &'static str,
        larder: f64,
        (baseline, baseline_name): (f64, String),
        ratio: Option<f64>,
        budget: Budget,
    ) -> Self {
        let (bound, limit, figure) = match budget {
            Budget::None => (Bound::None, None, None),
            Budget::RatioAtMost(limit) => (Bound::AtMost, Some(limit), ratio),
            Budget::RatioAtLeast(limit) => (Bound::AtLeast, Some(limit), ratio),
            Budget::FigureAtMost(limit) => (Bound::AtMost, Some(limit), Some(larder)),
        };
        let holds = limit.map(|limit| match (figure, bound) {
            (Some(figure), Bound::AtLeast) => figure >= limit,
            (Some(figure), _) => figure <= limit,
            (None, _) => false,
        });
        Self { name, larder, baseline, baseline_name, unit, ratio, budget: limit, holds, bound }
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.holds == Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_on_which_side_of_it_a_row_has_to_be() {
        let row = |budget| Row::figures("it", "ns", 150.0, (100.0, "other"), budget).holds;
        assert_eq!(row(Budget::RatioAtMost(1.4)), Some(false));
        assert_eq!(row(Budget::RatioAtMost(1.6)), Some(true));
        assert_eq!(row(Budget::RatioAtLeast(1.4)), Some(true));
        assert_eq!(row(Budget::FigureAtMost(0.0)), Some(false));
        assert_eq!(row(Budget::None), None);
    }

    #[test]
    fn a_baseline_of_zero_has_no_ratio() {
        let row = Row::figures("allocations", "count", 0.0, (0.0, "quick_cache"), Budget::FigureAtMost(0.0));
        assert_eq!((row.ratio, row.holds), (None, Some(true)));
    }
}
