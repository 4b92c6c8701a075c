//! Who was heard on the bus, and which of their messages were not.
//!
//! Messages of one origin travel over several sockets and may overtake each other, so that a number that is missing is a
//! hole only if it does not come within a while.

use std::{collections::HashMap, time::Duration};

use larder_core::Tick;

/// More than so many missing at a time are a hole at once. In a cluster each key of a removal may have a message of its own, and
/// they overtake each other.
const MOST_MISSING: u64 = 4096;

/// An origin that was silent for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Origins of one period of trust.
#[derive(Debug, Default)]
pub(super) struct Origins {
    known: HashMap<u64, Origin>,
    /// More was missing than could be waited for.
    torn: bool,
}

#[derive(Debug)]
struct Origin {
    /// The greatest number that was heard or heard of.
    highest: u64,
    missing: HashMap<u64, Tick>,
    heard: Tick,
}

impl Origins {
    /// A message that bears this number.
    pub(super) fn heard(&mut self, origin: u64, sequence: u64, now: Tick) {
        self.reach(origin, sequence, now);
        self.excuse(origin, &[sequence]);
    }

    /// A heartbeat: this was the number of the last message.
    pub(super) fn heard_of(&mut self, origin: u64, sequence: u64, now: Tick) {
        self.reach(origin, sequence, now);
    }

    /// These need not be waited for.
    pub(super) fn excuse(&mut self, origin: u64, numbers: &[u64]) {
        if let Some(origin) = self.known.get_mut(&origin) {
            origin.missing.retain(|number, _| !numbers.contains(number));
        }
    }

    fn reach(&mut self, origin: u64, sequence: u64, now: Tick) {
        // What an origin said before it was first heard is no business of this period of trust.
        let first = || Origin { highest: sequence, missing: HashMap::new(), heard: now };
        let origin = self.known.entry(origin).or_insert_with(first);
        origin.heard = now;
        let from = origin.highest + 1;
        if sequence < from {
            return;
        }
        origin.highest = sequence;
        if sequence - from >= MOST_MISSING || origin.missing.len() as u64 >= MOST_MISSING {
            self.torn = true;
            return;
        }
        origin.missing.extend((from..=sequence).map(|number| (number, now)));
    }

    /// Whether a message was missing for longer than this.
    pub(super) fn has_hole(&self, patience: Duration, now: Tick) -> bool {
        let late = |origin: &Origin| origin.missing.values().any(|since| now.since(*since) > patience);
        self.torn || self.known.values().any(late)
    }

    /// How many were heard within this time; those that were silent for long are forgotten.
    pub(super) fn within(&mut self, time: Duration, now: Tick) -> usize {
        self.known.retain(|_, origin| now.since(origin.heard) < FORGOTTEN_AFTER);
        self.known.values().filter(|origin| now.since(origin.heard) <= time).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Tick {
        Tick::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_number_that_does_not_come_is_a_hole_after_a_while() {
        let mut origins = Origins::default();
        origins.heard(1, 5, at(0));
        origins.heard(1, 7, at(0));
        assert!(!origins.has_hole(PATIENCE, at(2)));
        assert!(origins.has_hole(PATIENCE, at(3)));
    }

    #[test]
    fn a_heartbeat_tells_of_a_last_message_that_was_lost() {
        let mut origins = Origins::default();
        origins.heard(1, 5, at(0));
        origins.heard_of(1, 6, at(1));
        assert!(origins.has_hole(PATIENCE, at(4)));
    }

    #[test]
    fn what_comes_late_or_is_excused_is_no_hole() {
        let mut origins = Origins::default();
        origins.heard(1, 5, at(0));
        origins.heard_of(1, 8, at(0));
        origins.heard(1, 7, at(1));
        origins.heard(1, 6, at(1));
        origins.excuse(1, &[8]);
        assert!(!origins.has_hole(PATIENCE, at(100)));
        // Hearing one twice does no harm.
        origins.heard(1, 6, at(1));
        assert!(!origins.has_hole(PATIENCE, at(100)));
    }

    #[test]
    fn more_than_can_be_waited_for_is_a_hole_at_once() {
        let mut origins = Origins::default();
        origins.heard(1, 5, at(0));
        origins.heard(1, 5000, at(0));
        assert!(origins.has_hole(PATIENCE, at(0)));
    }

    #[test]
    fn what_was_said_before_one_listened_is_not_missed() {
        let mut origins = Origins::default();
        origins.heard(1, 1000, at(0));
        assert!(!origins.has_hole(PATIENCE, at(100)));
    }

    #[test]
    fn those_who_fell_silent_are_not_counted() {
        let mut origins = Origins::default();
        origins.heard(1, 1, at(0));
        origins.heard_of(2, 1, at(10));
        assert_eq!(origins.within(Duration::from_secs(5), at(11)), 1);
    }
}
