//! A sample as text and as a document.

use serde_json::{Value, json};

use super::{BANDS, Sample};
use crate::{
    report::table,
    span::{bytes, millis, shown},
};

impl Sample {
    /// Of how many keys this speaks.
    pub(crate) fn extent(&self) -> String {
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(", {refused} more are hidden from this user"),
        };
        let broken_off = if self.broken_off { ", broken off after 30 s" } else { "" };
        format!("{} of {} keys looked at{refused}{broken_off}", self.keys.len(), self.total)
    }

    /// What was found on the whole, a line each.
    pub(crate) fn summary(&self) -> String {
        let whole = self.whole();
        let kinds = self.by_kind().into_iter().map(|(kind, part)| format!("{} {kind}", part.keys));
        format!(
            "memory: {} in these, about {} in all\nwithout TTL: {}\nkinds: {}",
            bytes(whole.bytes),
            bytes(self.estimate(whole.bytes)),
            share(whole.without_ttl, whole.keys),
            kinds.collect::<Vec<_>>().join(", "),
        )
    }

    /// How long keys have left, as a table.
    pub(crate) fn ttl_table(&self) -> String {
        let counts = self.by_ttl();
        let names = BANDS.iter().map(|end| format!("up to {}", band(*end))).chain(["longer".to_owned()]);
        let keys = self.keys.len() as u64;
        let rows = names.zip(counts).map(|(name, count)| [name, count.to_string(), share(count, keys)]);
        let lasting = self.whole().without_ttl;
        let never = ["never".to_owned(), lasting.to_string(), share(lasting, keys)];
        table(["expires in", "keys", "share"], rows.chain([never]))
    }

    /// Memory by prefix, as a table.
    pub(crate) fn prefix_table(&self, depth: u8, limit: usize) -> String {
        let all = self.whole();
        let rows = self.by_prefix(depth).into_iter().take(limit).map(|(prefix, part)| {
            let name = if prefix.is_empty() { "(none)" } else { prefix };
            [
                name.to_owned(),
                part.keys.to_string(),
                share(part.without_ttl, part.keys),
                bytes(part.bytes),
                share(part.bytes, all.bytes),
                bytes(self.estimate(part.bytes)),
            ]
        });
        table(["prefix", "keys", "without TTL", "memory", "share", "about in all"], rows)
    }

    /// The biggest keys, as a table.
    pub(crate) fn biggest_table(&self, limit: usize) -> String {
        let rows = self.biggest(limit).into_iter().map(|key| {
            let left = key.remaining.duration().map_or_else(|| "never".to_owned(), shown);
            [key.key.clone(), key.kind.clone(), bytes(key.bytes), left]
        });
        table(["key", "kind", "memory", "expires in"], rows)
    }

    /// What every document about a sample has.
    pub(crate) fn document(&self) -> Value {
        let whole = self.whole();
        let kinds = self.by_kind().into_iter();
        let kinds = kinds.map(|(kind, part)| json!({"kind": kind, "keys": part.keys, "bytes": part.bytes}));
        let ends = BANDS.iter().map(|end| millis(*end)).chain([None]);
        let bands = ends.zip(self.by_ttl()).map(|(end, keys)| json!({"up_to_ms": end, "keys": keys}));
        json!({
            "keys": whole.keys,
            "refused": self.refused,
            "total": self.total,
            "complete": !self.broken_off,
            "bytes": whole.bytes,
            "estimated_bytes": self.estimate(whole.bytes),
            "without_ttl": whole.without_ttl,
            "kinds": kinds.collect::<Vec<_>>(),
            "ttl": bands.collect::<Vec<_>>(),
        })
    }

    /// The list of prefixes.
    pub(crate) fn prefixes(&self, depth: u8, limit: usize) -> Value {
        let prefixes = self.by_prefix(depth).into_iter().take(limit).map(|(prefix, part)| {
            json!({
                "prefix": prefix,
                "keys": part.keys,
                "bytes": part.bytes,
                "without_ttl": part.without_ttl,
                "estimated_keys": self.estimate(part.keys),
                "estimated_bytes": self.estimate(part.bytes),
            })
        });
        prefixes.collect()
    }

    /// The list of the biggest keys.
    pub(crate) fn biggest_list(&self, limit: usize) -> Value {
        let keys = self.biggest(limit).into_iter().map(|key| {
            let left = key.remaining.duration().and_then(millis);
            json!({"key": key.key, "kind": key.kind, "bytes": key.bytes, "ttl_ms": left})
        });
        keys.collect()
    }
}

/// A round time in its one unit.
fn band(end: std::time::Duration) -> String {
    match end.as_secs() {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// In whole percent, where what is little is not called nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    if percent == 0 && part > 0 { "< 1 %".to_owned() } else { format!("{percent} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_bands_are_short() {
        assert_eq!(
            [(0, 0), (1, 1_000), (1, 3), (3, 3)].map(|(part, whole)| share(part, whole)),
            ["0 %", "< 1 %", "33 %", "100 %"]
        );
        assert_eq!(BANDS.map(band), ["10 s", "1 min", "15 min", "1 h", "1 d", "7 d"]);
    }
}
