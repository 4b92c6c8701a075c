//! What a store says of itself, for operators.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::{Error, ErrorKind, Remaining, Result};

/// Figures about the store itself, its settings, and a look at some of its keys.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// What the store says of itself.
    async fn server_figures(&self) -> Result<ServerFigures>;

    /// How the store is set up, as far as it matters to a cache. A user without the right to ask learns nothing, which is
    /// no error.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the backend has no settings of this kind.
    async fn settings(&self) -> Result<ServerSettings> {
        Err(unsupported("settings"))
    }

    /// Looks at up to `keys` different keys, chosen at random among all keys of the database, in pages. At least one
    /// page; ends earlier where there are not so many keys, or where it becomes hard to meet one that was not seen yet.
    /// The store is asked for no more than a page at a time, so that the reader bounds time and memory by ceasing to
    /// read. Dropping the stream ends it.
    ///
    /// An item is [`Unsupported`](ErrorKind::Unsupported) where the backend cannot do this.
    #[expect(unused_variables, reason = "a named argument reads better in the documentation")]
    fn sample(&self, keys: usize) -> BoxStream<'_, Result<SamplePage>> {
        stream::iter([Err(unsupported("sample"))]).boxed()
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, "this backend does not offer it")
}

/// A part of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SamplePage {
    /// Keys that no earlier page had.
    pub keys: Vec<SampledKey>,
    /// How many keys there are in all.
    pub total: u64,
    /// Keys about which the user may ask nothing.
    pub refused: u64,
}

/// A key that was met by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampledKey {
    /// The key, cut off after 1,024 bytes; bytes that are not UTF-8 are replaced.
    pub key: String,
    /// What is stored, in the store's own words: `string`, `hash`, ...
    pub kind: String,
    /// How long it has left.
    pub remaining: Remaining,
    /// What it takes of the store's memory, the key included; of a large collection an estimate.
    pub bytes: u64,
}

impl SampledKey {
    /// What a store says of one key.
    #[must_use]
    pub fn new(key: impl Into<String>, kind: impl Into<String>, remaining: Remaining, bytes: u64) -> Self {
        Self { key: key.into(), kind: kind.into(), remaining, bytes }
    }
}

/// Settings by their names, as the store has them; what it does not tell is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSettings(BTreeMap<String, BTreeSet<String>>);

impl ServerSettings {
    /// Notes a setting of one server.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    /// The different values that a setting has: none where it is unknown, several where servers differ.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The value, where all servers have the same.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// All settings with their values, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.iter().map(String::as_str)))
    }
}

/// What a store says of itself; what it does not know is `None`.
///
/// Several primaries are told as one store: numbers are added (`max_bytes` is 0 where one of them has no limit), of the
/// uptime the least and of the fragmentation the highest counts, a flag tells of the worst, and texts that differ stand
/// beside each other, separated by `, `. Such a store has no `run_id`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerFigures {
    /// The server's version.
    pub version: Option<String>,
    /// Identifies one run of the server process, where there is one.
    pub run_id: Option<String>,
    /// `standalone`, `sentinel` or `cluster`: how the servers are organized.
    pub mode: Option<String>,
    /// How many primaries these figures are of.
    pub primaries: Option<u64>,
    /// Seconds since the server started.
    pub uptime_seconds: Option<u64>,
    /// Keys in the selected database.
    pub keys: Option<u64>,
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// The memory limit in bytes; 0 means none.
    pub max_bytes: Option<u64>,
    /// What is evicted at the limit.
    pub eviction_policy: Option<String>,
    /// Keys evicted since the start.
    pub evicted: Option<u64>,
    /// Keys expired since the start.
    pub expired: Option<u64>,
    /// Reads that found their key, since the start, by all clients.
    pub hits: Option<u64>,
    /// Reads that did not.
    pub misses: Option<u64>,
    /// Connected clients.
    pub clients: Option<u64>,
    /// Clients that wait in a blocking call.
    pub blocked_clients: Option<u64>,
    /// Connections refused since the start because there were too many.
    pub rejected_connections: Option<u64>,
    /// Valkey's own version; it calls itself an older Redis in `version`.
    pub valkey_version: Option<String>,
    /// Whether the server still reads its data from disk, and answers no command meanwhile.
    pub loading: Option<bool>,
    /// Whether every write goes to an append-only file.
    pub append_only: Option<bool>,
    /// Whether the last snapshot was written; a server that fails to write one may refuse writes.
    pub snapshot_ok: Option<bool>,
    /// Memory that the process holds, in percent of `used_bytes`.
    pub fragmentation_percent: Option<u64>,
    /// `master` or `slave`, as the server says it.
    pub role: Option<String>,
    /// Of a replica, whether it hears its primary.
    pub primary_link_up: Option<bool>,
    /// Replicas that are connected.
    pub replicas: Option<u64>,
    /// Replicas that are still being filled, or have not been heard of for ten seconds.
    pub lagging_replicas: Option<u64>,
    /// Keys of all databases that never expire.
    pub keys_without_ttl: Option<u64>,
    /// Of a cluster, whether every primary calls it well.
    pub cluster_ok: Option<bool>,
    /// Of a cluster, how many of its 16384 slots a node serves that nobody suspects of having failed.
    pub slots_covered: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Bare;

    #[async_trait]
    impl Inspect for Bare {
        async fn server_figures(&self) -> Result<ServerFigures> {
            Ok(ServerFigures::default())
        }
    }

    #[test]
    fn a_backend_with_figures_alone_says_that_it_offers_no_more() {
        let settings = futures_executor::block_on(Bare.settings());
        let sample = futures_executor::block_on(Bare.sample(1).collect::<Vec<_>>());
        assert_eq!(settings.map_err(|error| error.kind()), Err(ErrorKind::Unsupported));
        assert_eq!(sample.len(), 1);
        assert!(sample.iter().all(|page| page.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported)));
    }

    #[test]
    fn servers_that_differ_have_no_common_setting() {
        let mut settings = ServerSettings::default();
        for (name, value) in [("hz", "10"), ("hz", "10"), ("timeout", "0"), ("timeout", "300")] {
            settings.insert(name, value);
        }
        assert_eq!((settings.get("hz"), settings.get("timeout"), settings.get("save")), (Some("10"), None, None));
        assert_eq!(settings.values("timeout").collect::<Vec<_>>(), ["0", "300"]);
    }
}
