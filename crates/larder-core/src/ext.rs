//! Conveniences over [`Backend`], implemented for all of them.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::{
    Backend, Each, Error, ErrorKind, Expiry, Found, GetOptions, Key, Pattern, Remaining, Result, SetItem, SetOptions,
    SetOutcome,
};

/// Keys per page of a pattern run.
pub const SCAN_PAGE: usize = 512;

/// Single-key conveniences and pattern deletion.
#[async_trait]
pub trait BackendExt: Backend {
    /// Reads one value.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let found = only("get", self.get_many(std::slice::from_ref(key), GetOptions::new()).await)?;
        Ok(found.map(|found| found.value))
    }

    /// Reads one value and what it has left.
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<Found>> {
        only("get", self.get_many(std::slice::from_ref(key), GetOptions::new().with_ttl()).await)
    }

    /// Writes one value.
    async fn set(&self, key: &Key, value: Bytes, options: SetOptions) -> Result<SetOutcome> {
        only("set", self.set_many(&[SetItem::new(key.clone(), value, options)]).await)
    }

    /// Removes one key; answers whether it was there.
    async fn delete(&self, key: &Key) -> Result<bool> {
        only("delete", self.delete_many(std::slice::from_ref(key)).await)
    }

    /// How long one key has left.
    async fn ttl(&self, key: &Key) -> Result<Option<Remaining>> {
        only("ttl", self.ttl_many(std::slice::from_ref(key)).await)
    }

    /// Whether the key is there.
    async fn exists(&self, key: &Key) -> Result<bool> {
        Ok(self.ttl(key).await?.is_some())
    }

    /// Changes how long one key lives; answers whether it was there.
    async fn expire(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        only("expire", self.expire_many(std::slice::from_ref(key), expiry).await)
    }

    /// Removes every key that matches, page by page; answers how many. Keys that are written meanwhile may stay. On an
    /// error, and when the future is dropped, the pages that were done stay done.
    async fn delete_pattern(&self, pattern: &Pattern) -> Result<u64> {
        let Some(scan) = self.as_scan() else {
            return Err(Error::unsupported("delete_pattern", self.name()));
        };
        let mut pages = scan.scan(pattern, SCAN_PAGE);
        let mut removed = 0;
        while let Some(keys) = pages.try_next().await? {
            for answer in self.delete_many(&keys).await {
                removed += u64::from(answer?);
            }
        }
        Ok(removed)
    }
}

impl<B: Backend + ?Sized> BackendExt for B {}

fn only<T>(operation: &'static str, answers: Each<T>) -> Result<T> {
    answers.into_iter().next().unwrap_or_else(|| {
        Err(Error::new(
            ErrorKind::Protocol,
            operation,
            "the backend answered for none of the keys; this is a defect of it",
        ))
    })
}
