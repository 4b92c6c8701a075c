//! What the last calls came to: a rolling window, bounded by time and by number.
//!
//! Calls are added up in parts, and parts leave as a whole: a part is closed after a tenth of the window's time or with a
//! tenth of its calls, and dropped once it is older than the window or once the later ones alone have enough calls. So the
//! window holds some twenty parts at most, whatever the load, and reaches less far back under a high one: a backend that
//! begins to fail is judged by its last calls, not by the million good ones before.

use std::{collections::VecDeque, time::Duration};

use larder_core::Tick;

/// The window's parts if only time, or only the number of calls, closed them.
const PARTS: u32 = 10;

/// What some calls came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u32,
    pub(crate) faults: u32,
    /// Answered, but late.
    pub(crate) slow: u32,
}

impl Tally {
    pub(crate) const FAULT: Self = Self { calls: 1, faults: 1, slow: 0 };
    pub(crate) const SLOW: Self = Self { calls: 1, faults: 0, slow: 1 };

    pub(crate) const fn good(calls: u32) -> Self {
        Self { calls, faults: 0, slow: 0 }
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.faults = self.faults.saturating_add(other.faults);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

#[derive(Debug)]
pub(crate) struct Window {
    parts: VecDeque<(Tick, Tally)>,
    span: Duration,
    calls: u32,
}

impl Window {
    pub(crate) fn new(span: Duration, calls: u32) -> Self {
        Self { parts: VecDeque::new(), span, calls }
    }

    pub(crate) fn clear(&mut self) {
        self.parts.clear();
    }

    /// Adds calls that ended about now, and answers what the window holds.
    pub(crate) fn add(&mut self, now: Tick, tally: Tally) -> Tally {
        match self.parts.back_mut() {
            Some((began, part)) if now.since(*began) < self.span / PARTS && part.calls < self.calls.div_ceil(PARTS) => {
                part.add(tally);
            }
            _ => self.parts.push_back((now, tally)),
        }
        let mut total = Tally::default();
        self.parts.iter().for_each(|(_, part)| total.add(*part));
        while let Some((began, first)) = self.parts.front()
            && self.parts.len() > 1
            && (now.since(*began) >= self.span || total.calls - first.calls >= self.calls)
        {
            total.calls -= first.calls;
            total.faults -= first.faults;
            total.slow -= first.slow;
            self.parts.pop_front();
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn calls_leave_the_window_by_age() {
        let mut window = Window::new(SECOND * 10, 1000);
        window.add(Tick::ZERO, Tally::FAULT);
        assert_eq!(window.add(Tick::ZERO + SECOND * 9, Tally::good(1)), Tally { calls: 2, faults: 1, slow: 0 });
        assert_eq!(window.add(Tick::ZERO + SECOND * 10, Tally::SLOW), Tally { calls: 2, faults: 0, slow: 1 });
    }

    #[test]
    fn calls_leave_the_window_when_later_ones_fill_it() {
        let mut window = Window::new(SECOND * 10, 100);
        for _ in 0..1000 {
            window.add(Tick::ZERO, Tally::good(1));
        }
        let mut faults = 0;
        for _ in 0..100 {
            faults = window.add(Tick::ZERO, Tally::FAULT).faults;
        }
        let total = window.add(Tick::ZERO, Tally::FAULT);
        assert_eq!(faults, 100);
        assert!((100..=110).contains(&total.calls) && total.calls - total.faults <= 10, "{total:?}");
        assert!(window.parts.len() <= 12, "{}", window.parts.len());
    }
}
