//! Which values this backend wrote a moment ago, so that word of them can be told from word of others' writes.
//!
//! A server announces all writes alike, and several of one key as one, so that announcements cannot be counted off against
//! writes. (Its own means, `NOLOOP`, knows the connection that made the last change; but values go out on several, and
//! none of them is the one that tracks.) So what is stored is looked at: an entry begins with a token that no other write
//! has. Where the token is one of those written last, nothing has changed that this process does not know of.
//!
//! But for this: a fill token is placed only where nothing stands. If there was a value of one's own whose life has not
//! ended, and neither a removal of one's own nor word of another's, then somebody removed it a moment ago, and word of that
//! comes together with word of the token. That is passed on, once.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use larder_core::{
    Clock, Key, SystemClock, Tick,
    envelope::{MAGIC, TOKEN_BYTES, life_of_value},
};
use parking_lot::Mutex;

/// What ends so soon may have ended.
const LEEWAY: Duration = Duration::from_millis(100);

/// How long after a write word of it is looked into. What comes later counts as another's.
const MEMORY: Duration = Duration::from_secs(5);

/// So many keys are remembered at most, and half as many of those that were written last: word of a write comes within a
/// moment.
const MOST_KEYS: usize = 16_384;

/// So many writes of one key: a load writes a placeholder and then the value.
const MOST_WRITES: usize = 4;

pub(crate) type Token = [u8; TOKEN_BYTES];

/// What was written while somebody tracks.
#[derive(Debug)]
pub(crate) struct OwnWrites {
    clock: SystemClock,
    trackers: AtomicUsize,
    keys: Mutex<Remembered>,
}

/// Two generations, so that what was written long ago is forgotten without being looked for.
#[derive(Debug, Default)]
struct Remembered {
    young: HashMap<Key, Writes>,
    old: HashMap<Key, Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    last: Tick,
    tokens: VecDeque<Token>,
    /// Until when there is a value.
    lives_until: Tick,
    /// A value was removed by somebody else, and word of it may be taken for word of one's own write.
    was_removed: bool,
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
            *self.keys.lock() = Remembered::default();
        }
    }

    /// To be called before a value is sent. What is no entry has no token, and is not remembered.
    pub(crate) fn wrote(&self, key: &Key, value: &[u8]) {
        self.remember(key, value, false);
    }

    /// To be called before a fill token is sent that takes no other thing's place.
    pub(crate) fn placed(&self, key: &Key, token: &[u8]) {
        self.remember(key, token, true);
    }

    /// To be called before these keys are removed, when word of them is passed on, and when a value was not stored after
    /// all: nothing of one's own is known to stand there.
    pub(crate) fn gone<'k>(&self, gone: impl IntoIterator<Item = &'k Key>) {
        if self.trackers.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut keys = self.keys.lock();
        for key in gone {
            keys.remove(key);
        }
    }

    fn remember(&self, key: &Key, value: &[u8], is_placed: bool) {
        if self.trackers.load(Ordering::Acquire) == 0 || !value.starts_with(&MAGIC) {
            return;
        }
        let Some(token) = value.first_chunk::<TOKEN_BYTES>() else { return };
        let now = self.clock.now();
        let mut keys = self.keys.lock();
        let writes = keys.of_writer(key);
        writes.last = now;
        if is_placed {
            writes.was_removed |= writes.lives_until > now + LEEWAY;
        }
        writes.lives_until = life_of_value(value).map_or(Tick::ZERO, |life| now + life);
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
        let keys = self.keys.lock();
        keys.get(key).is_some_and(|writes| !writes.was_removed && writes.tokens.iter().any(|token| token == stored))
    }
}

impl Remembered {
    fn get(&self, key: &Key) -> Option<&Writes> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn remove(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Of a key that is being written.
    fn of_writer(&mut self, key: &Key) -> &mut Writes {
        if !self.young.contains_key(key) {
            let writes = self.old.remove(key).unwrap_or_default();
            if self.young.len() >= MOST_KEYS / 2 {
                self.old = mem::take(&mut self.young);
            }
            self.young.insert(key.clone(), writes);
        }
        self.young.entry(key.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::envelope::{CodecId, Header, Kind};

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

    fn written(kind: Kind, life: Duration) -> Vec<u8> {
        let mut header = Header::new(kind, CodecId::RAW);
        header.ttl_ms = u64::try_from(life.as_millis()).unwrap();
        header.encode(b"").unwrap()
    }

    #[test]
    fn a_fill_token_in_the_place_of_a_value_that_lived_is_no_own_write_until_that_was_told() {
        let (own, key, long) = (tracked(), Key::new("k"), Duration::from_secs(600));
        let load = |life| {
            let (token, value) = (written(Kind::Placeholder, life), written(Kind::Value, life));
            own.placed(&key, &token);
            let while_loading = own.is_own(&key, &token[..TOKEN_BYTES]);
            // A token that is renewed.
            own.wrote(&key, &token);
            own.wrote(&key, &value);
            [while_loading, own.is_own(&key, &value[..TOKEN_BYTES])]
        };
        assert_eq!(load(long), [true, true]);
        assert_eq!(load(long), [false, false]);
        own.gone([&key]);
        assert_eq!(load(LEEWAY), [true, true]);
        assert_eq!(load(long), [true, true], "the life of the one before had ended");
    }

    #[test]
    fn of_more_keys_than_there_is_room_for_those_are_kept_that_were_written_last() {
        let own = tracked();
        let name = |index: usize| Key::new(&index.to_string());
        for index in 0..3 * MOST_KEYS {
            own.wrote(&Key::new("again and again"), &value(2));
            own.wrote(&name(index), &value(1));
            assert!(own.is_own(&name(index), &value(1)[..TOKEN_BYTES]), "{index}");
        }
        assert!(own.may_be_own(&Key::new("again and again")));
        let kept = (0..3 * MOST_KEYS).filter(|index| own.may_be_own(&name(*index))).count();
        assert!((MOST_KEYS / 4..=MOST_KEYS).contains(&kept), "{kept}");
    }
}
