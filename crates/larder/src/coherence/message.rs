//! What is said on the bus. A message is lines of text: protocol, origin, the origin's count of messages, kind, then one
//! item a line. Canonical keys hold no line breaks.

use larder_core::{Key, Pattern};

/// The first line of every message.
const PROTOCOL: &str = "larder 1";

/// Bytes of keys that one message names at most.
const MOST_BYTES: usize = 32 << 10;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Which cache says it.
    pub(crate) origin: u64,
    /// How many messages it had sent with this one; a heartbeat is not counted, it repeats the number. 0 for what has none: to
    /// miss it is no hole, and to hear it closes none.
    pub(crate) sequence: u64,
    pub(crate) body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// These keys were removed or written. Markers among them stand for tags, regions, the namespace.
    Keys(Vec<Key>),
    /// The keys that match were removed.
    Pattern(Pattern),
    /// The keys below a prefix that have this part.
    Part { prefix: String, part: String },
    /// A sign of life.
    Beat(Beat),
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) number: u64,
    /// The version of the namespace's generation, as the sender has just read it.
    pub(crate) generation: Option<u64>,
    /// Numbers of messages that may never have been sent: their removals will be said again.
    pub(crate) void: Vec<u64>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) &'static str);

impl Message {
    pub(crate) fn encode(&self) -> String {
        let Self { origin, sequence, body } = self;
        let (kind, items) = match body {
            Body::Keys(keys) => ("keys", keys.iter().map(ToString::to_string).collect()),
            Body::Pattern(pattern) => ("pattern", vec![pattern.to_string()]),
            Body::Part { prefix, part } => ("part", vec![prefix.clone(), part.clone()]),
            Body::Beat(Beat { number, generation, void }) => {
                let generation = generation.map_or_else(|| "-".to_owned(), |version| format!("{version:x}"));
                let mut items = vec![format!("{number:x}"), generation];
                items.extend(void.iter().map(|number| format!("{number:x}")));
                ("beat", items)
            }
        };
        let mut text = format!("{PROTOCOL}\n{origin:016x}\n{sequence:x}\n{kind}");
        for item in items {
            text.push('\n');
            text.push_str(&item);
        }
        text
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(message).map_err(|_| Unreadable("it is no text"))?;
        let mut lines = text.split('\n');
        if lines.next() != Some(PROTOCOL) {
            return Err(Unreadable("it is of another version of the protocol"));
        }
        let origin = lines.next().and_then(number).ok_or(Unreadable("it names no origin"))?;
        let sequence = lines.next().and_then(number).ok_or(Unreadable("it has no number"))?;
        let kind = lines.next().ok_or(Unreadable("it names no kind"))?;
        let items: Vec<&str> = lines.collect();
        let body = match (kind, items.as_slice()) {
            ("keys", keys) => Body::Keys(keys.iter().map(|key| Key::from_canonical(*key)).collect()),
            ("pattern", [pattern]) => Body::Pattern(Pattern::from_canonical(*pattern)),
            ("part", [prefix, part]) => Body::Part { prefix: (*prefix).to_owned(), part: (*part).to_owned() },
            ("beat", [count, generation, void @ ..]) => Body::Beat(Beat {
                number: number(count).ok_or(Unreadable("a heartbeat without its number"))?,
                generation: number(generation),
                void: void.iter().filter_map(|sequence| number(sequence)).collect(),
            }),
            _ => return Err(Unreadable("it is of an unknown kind")),
        };
        Ok(Self { origin, sequence, body })
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Keys in portions that a message may name.
pub(crate) fn portions(keys: &[Key]) -> Vec<&[Key]> {
    let (mut portions, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, key) in keys.iter().enumerate() {
        let length = key.as_str().len() + 1;
        if bytes + length > MOST_BYTES && index > start {
            portions.push(&keys[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += length;
    }
    if start < keys.len() {
        portions.push(&keys[start..]);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_survives_the_journey() {
        for body in [
            Body::Keys(vec![Key::new("a:1"), Key::new("b c")]),
            Body::Keys(Vec::new()),
            Body::Pattern(Pattern::new("a:*").unwrap()),
            Body::Part { prefix: "n:api:".into(), part: "BTC".into() },
            Body::Beat(Beat { number: 3, generation: Some(u64::MAX), void: vec![1, 0xff] }),
            Body::Beat(Beat { number: 0, generation: None, void: Vec::new() }),
        ] {
            let message = Message { origin: 7, sequence: 12, body };
            assert_eq!(Message::decode(message.encode().as_bytes()), Ok(message));
        }
    }

    #[test]
    fn messages_of_other_versions_and_kinds_are_refused() {
        for message in [
            "",
            "larder 2\n0\n0\nkeys",
            "larder 1\nx\n0\nkeys",
            "larder 1\n0\nkeys",
            "larder 1\n0\n0\nnews",
            "larder 1\n0\n0\npattern",
            "larder 1\n0\n0\nbeat",
        ] {
            assert!(Message::decode(message.as_bytes()).is_err(), "{message}");
        }
        assert!(Message::decode(&[0xff]).is_err());
    }

    #[test]
    fn many_keys_are_named_in_several_messages_and_each_once() {
        let keys: Vec<Key> = (0..10_000).map(|number| Key::new(&format!("key:{number}"))).collect();
        let portions = portions(&keys);
        assert!(portions.len() > 1);
        assert!(portions.iter().all(|keys| keys.iter().map(|key| key.as_str().len() + 1).sum::<usize>() <= MOST_BYTES));
        assert_eq!(portions.concat(), keys);
        assert!(super::portions(&[]).is_empty());
    }
}
