//! What a call that starts now must not fall behind, as one process knows it.

use std::{collections::VecDeque, io};

use parking_lot::Mutex;

use super::{
    ELSEWHERE, KEYS, Rule,
    source::{Answered, Log, now},
};

/// The least version that a call may get, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) version: u64,
    pub(super) rule: Rule,
    /// The answer that it follows from.
    pub(super) answered: Option<Answered>,
}

impl Bound {
    const NONE: Self = Self { version: 0, rule: Rule::Sane, answered: None };

    fn raise(&mut self, rule: Rule, answered: Answered) {
        if answered.version > self.version {
            *self = Self { version: answered.version, rule, answered: Some(answered) };
        }
    }
}

/// The bounds of all keys, in one process.
#[derive(Debug)]
pub(super) struct Promises {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many records were read.
    read: u64,
    /// Of these, how many are known to have been heard.
    heard: u64,
    /// Records that were read and not heard, in their order.
    unheard: VecDeque<Answered>,
    bounds: Vec<Bound>,
}

impl Promises {
    /// A process that starts: what was answered until now must not be undercut by what it finds in Redis.
    pub(super) fn new(log: &Log) -> io::Result<Self> {
        let state = State { read: 0, heard: 0, unheard: VecDeque::new(), bounds: vec![Bound::NONE; KEYS as usize] };
        let promises = Self { state: Mutex::new(state) };
        let records = log.read_from(0)?;
        promises.heard(log, records.len() as u64)?;
        Ok(promises)
    }

    /// This process has invalidated and was answered.
    pub(super) fn own(&self, answered: &[Answered]) {
        let mut state = self.state.lock();
        for record in answered {
            state.bounds[record.key as usize].raise(Rule::Own, *record);
        }
    }

    /// This process has handled all messages about the first so many records.
    pub(super) fn heard(&self, log: &Log, records: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.read_on(log)?;
        while state.heard < records.min(state.read) {
            // What `elsewhere` has taken out of the queue is counted there.
            let Some(record) = state.unheard.pop_front() else { break };
            state.heard += 1;
            state.bounds[record.key as usize].raise(Rule::Heard, record);
        }
        Ok(())
    }

    /// What a call for the key that starts now must not fall behind.
    pub(super) fn bound(&self, log: &Log, key: u32) -> io::Result<Bound> {
        let mut state = self.state.lock();
        state.read_on(log)?;
        state.elsewhere(now());
        Ok(state.bounds[key as usize])
    }
}

impl State {
    fn read_on(&mut self, log: &Log) -> io::Result<()> {
        let records = log.read_from(self.read)?;
        self.read += records.len() as u64;
        self.unheard.extend(records);
        Ok(())
    }

    fn elsewhere(&mut self, now: u64) {
        let age = u64::try_from(ELSEWHERE.as_nanos()).unwrap_or(u64::MAX);
        // The records are nearly in the order of their time.
        while let Some(record) = self.unheard.front().copied().filter(|record| record.at + age <= now) {
            self.unheard.pop_front();
            self.heard += 1;
            self.bounds[record.key as usize].raise(Rule::Elsewhere, record);
        }
    }
}
