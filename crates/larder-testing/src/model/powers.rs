//! The model's optional powers.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use larder_core::{
    Atomic, Counter, Error, ErrorKind, Expected, Inspect, Key, Lock, Pattern, Result, Scan, ServerFigures, SetOptions,
    SetOutcome, Ttl,
};

use super::{Entry, ModelBackend};

impl Scan for ModelBackend {
    /// The keys as they are at the first poll.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let pages = async move {
            let keys: Vec<_> = self.keys().into_iter().filter(|key| pattern.matches(key.as_str())).collect();
            stream::iter(keys.chunks(page.max(1)).map(|page| Ok(page.to_vec())).collect::<Vec<_>>())
        };
        stream::once(pages).flatten().boxed()
    }
}

#[async_trait]
impl Atomic for ModelBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        let mut entries = self.live();
        let old = entries.get(key).map(|entry| entry.value.clone());
        if old.is_none() {
            self.store(&mut entries, key, &value, SetOptions::new().ttl(ttl));
        }
        Ok(old)
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let mut entries = self.live();
        if entries.get(key).is_some_and(|entry| expected.holds(&entry.value)) {
            return Ok(self.store(&mut entries, key, &value, SetOptions::new().ttl(options.ttl)));
        }
        Ok(SetOutcome::Rejected)
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        let mut entries = self.live();
        let holds = entries.get(key).is_some_and(|entry| expected.holds(&entry.value));
        Ok(holds && entries.remove(key).is_some())
    }
}

#[async_trait]
impl Counter for ModelBackend {
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        let mut entries = self.live();
        let (count, ttl) = match entries.get(key) {
            None => (0, Ttl::from(ttl)),
            Some(entry) => (integer("increment", key, entry)?, Ttl::Keep),
        };
        let sum = count.checked_add(amount).ok_or_else(|| {
            let message = format!("{count} and {amount} leave the range of a signed 64-bit integer");
            Error::new(ErrorKind::Overflow, "increment", message).with_key(key)
        })?;
        self.store(&mut entries, key, &Bytes::from(sum.to_string()), SetOptions::new().ttl(ttl));
        Ok(sum)
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        self.live().get(key).map(|entry| integer("count", key, entry)).transpose()
    }
}

fn integer(operation: &'static str, key: &Key, entry: &Entry) -> Result<i64> {
    let text = std::str::from_utf8(&entry.value).unwrap_or_default();
    // Redis takes only the spelling that it would write itself.
    text.parse::<i64>().ok().filter(|number| number.to_string() == text).ok_or_else(|| {
        let message = "the value is not the decimal text of a signed 64-bit integer";
        Error::new(ErrorKind::KindMismatch, operation, message).with_key(key)
    })
}

#[async_trait]
impl Lock for ModelBackend {
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        Ok(self.hold(key, token, lease, true))
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        Ok(self.hold(key, token, lease, false))
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        self.compare_and_delete(key, &Expected::exactly(token.to_owned())).await
    }
}

impl ModelBackend {
    fn hold(&self, key: &Key, token: &str, lease: Duration, may_take: bool) -> bool {
        let mut entries = self.live();
        let granted = entries.get(key).map_or(may_take, |entry| entry.value == token);
        if granted {
            let options = SetOptions::new().ttl(lease);
            self.store(&mut entries, key, &Bytes::from(token.to_owned()), options);
        }
        granted
    }
}

#[async_trait]
impl Inspect for ModelBackend {
    async fn server_figures(&self) -> Result<ServerFigures> {
        let mut figures = ServerFigures::default();
        figures.keys = Some(self.live().len() as u64);
        Ok(figures)
    }
}
