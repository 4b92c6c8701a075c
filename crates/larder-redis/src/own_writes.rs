//! Which values this backend wrote a moment ago, so that word of them can be told from word of others' writes.
//!
//! A server announces all writes alike, and several of one key as one, so that announcements cannot be counted off against
//! writes. (Its own means, `NOLOOP`, knows the connection that made the last change; but values go out on several, and
//! none of them is the one that tracks.) So what is stored is looked at: an entry begins with a token that no other write
//! has. Where the token is one of those written last, nothing has changed that this process does not know of.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use larder_core::{
    Clock, Key, SystemClock, Tick,
    envelope::{MAGIC, TOKEN_BYTES},
};
use parking_lot::Mutex;

/// How long after a write word of it is looked into. What comes later counts as another's.
const MEMORY: Duration = Duration::from_secs(5);

/// So many keys are remembered; of further ones word counts as another's.
const MOST_KEYS: usize = 16_384;

/// So many writes of one key: a load writes a placeholder and then the value.
const MOST_WRITES: usize = 4;

pub(crate) type Token = [u8; TOKEN_BYTES];

/// What was written while somebody tracks.
#[derive(Debug)]
pub(crate) struct OwnWrites {
    clock: SystemClock,
    trackers: AtomicUsize,
    keys: Mutex<HashMap<Key, Writes>>,
}

#[derive(Debug)]
struct Writes {
    last: Tick,
    tokens: VecDeque<Token>,
}

impl OwnWrites {
    pub(crate) fn new(clock: SystemClock) -> Self {
        Self { clock, trackers: AtomicUsize::new(0), keys: Mutex::default() }
    }

    pub(crate) fn begin(&self) {
        self.trackers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) {
        if self.trackers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.keys.lock().clear();
        }
    }

    /// To be called before a value is sent. What is no entry has no token, and is not remembered.
    pub(crate) fn wrote(&self, key: &Key, value: &[u8]) {
        if self.trackers.load(Ordering::Acquire) == 0 || !value.starts_with(&MAGIC) {
            return;
        }
        let Some(token) = value.first_chunk::<TOKEN_BYTES>() else { return };
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        if keys.len() >= MOST_KEYS && !keys.contains_key(key) {
            keys.retain(|_, writes| now.since(writes.last) < MEMORY);
            if keys.len() >= MOST_KEYS {
                return;
            }
        }
        let writes = keys.entry(key.clone()).or_insert_with(|| Writes { last: now, tokens: VecDeque::new() });
        writes.last = now;
        if writes.tokens.len() == MOST_WRITES {
            writes.tokens.pop_front();
        }
        writes.tokens.push_back(*token);
    }

    /// Whether it was written to so recently that word of it may be of that.
    pub(crate) fn may_be_own(&self, key: &Key) -> bool {
        let now = self.clock.now();
        self.keys.lock().get(key).is_some_and(|writes| now.since(writes.last) < MEMORY)
    }

    /// Whether what is stored, by its first bytes, is what was written.
    pub(crate) fn is_own(&self, key: &Key, stored: &[u8]) -> bool {
        self.keys.lock().get(key).is_some_and(|writes| writes.tokens.iter().any(|token| token == stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(write: u8) -> Vec<u8> {
        let mut value = MAGIC.to_vec();
        value.extend([write; 40]);
        value
    }

    fn tracked() -> OwnWrites {
        let own = OwnWrites::new(SystemClock::new());
        own.begin();
        own
    }

    #[test]
    fn the_last_writes_of_a_key_are_known_by_their_tokens() {
        let (own, key) = (tracked(), Key::new("k"));
        for write in 0..=4 {
            own.wrote(&key, &value(write));
        }
        assert!(own.may_be_own(&key) && !own.may_be_own(&Key::new("other")));
        let is_own = |write| own.is_own(&key, &value(write)[..TOKEN_BYTES]);
        assert_eq!([0, 1, 4, 5].map(is_own), [false, true, true, false]);
        assert!(!own.is_own(&key, b""));
    }

    #[test]
    fn nothing_is_kept_that_nobody_tracks_or_that_has_no_token() {
        let key = Key::new("k");
        let own = OwnWrites::new(SystemClock::new());
        own.wrote(&key, &value(1));
        assert!(!own.may_be_own(&key));
        own.begin();
        own.wrote(&key, b"{\"price\": 64000, \"at\": 1}");
        own.wrote(&key, &MAGIC);
        assert!(!own.may_be_own(&key));
        own.wrote(&key, &value(1));
        own.end();
        assert!(!own.may_be_own(&key));
    }

    #[test]
    fn no_more_keys_are_kept_than_there_is_room_for() {
        let own = tracked();
        for index in 0..MOST_KEYS + 10 {
            own.wrote(&Key::new(&index.to_string()), &value(1));
        }
        assert_eq!(own.keys.lock().len(), MOST_KEYS);
        assert!(own.may_be_own(&Key::new("0")));
    }
}
