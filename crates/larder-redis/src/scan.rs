//! Listing keys by pattern.

use std::{collections::HashSet, str};

use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use larder_core::{Key, Pattern, Result, Scan};
use redis::{Cmd, Value};

use crate::{RedisBackend, error, manager::Request, reply, sockets::Call};

/// What the server is asked to look at in one round trip: more would block it for long.
const LARGEST_PAGE: usize = 10_000;

const OPERATION: &str = "scan";

impl Scan for RedisBackend {
    /// SCAN with MATCH: a page is what one round trip found, deduplicated, and never empty. The server looks at about
    /// `page` keys (at most 10,000) for it, so that a rare pattern takes many round trips. The next page is asked for
    /// when it is wanted. Keys that are not UTF-8 cannot be Larder's and are left out.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let count = page.clamp(1, LARGEST_PAGE);
        let pages = stream::try_unfold(Some(0_u64), move |cursor| async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let (next, keys) = self.scan_page(pattern, cursor, count).await?;
            Ok(Some((keys, (next != 0).then_some(next))))
        });
        pages.try_filter(|keys| std::future::ready(!keys.is_empty())).boxed()
    }
}

impl RedisBackend {
    async fn scan_page(&self, pattern: &Pattern, cursor: u64, count: usize) -> Result<(u64, Vec<Key>)> {
        let mut command = Cmd::with_capacity(6, pattern.as_str().len() + 64);
        command.arg("SCAN").arg(cursor).arg("MATCH").arg(pattern.as_str()).arg("COUNT").arg(count);
        let call = Call { operation: OPERATION, slot: 0, repeatable: true };
        let answer = reply::array(OPERATION, self.sockets.send(call, Request::Command(&command)).await?)?;
        let [next, keys] =
            <[Value; 2]>::try_from(answer).map_err(|_| error::unexpected(OPERATION, "a cursor and keys"))?;
        let next = reply::bytes(OPERATION, next)?;
        let next = next.as_deref().and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        let next = next.ok_or_else(|| error::unexpected(OPERATION, "a cursor"))?;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for key in reply::array(OPERATION, keys)? {
            let Some(key) = reply::bytes(OPERATION, key)? else { continue };
            let Ok(text) = str::from_utf8(&key) else { continue };
            let key = Key::from_canonical(text);
            if seen.insert(key.clone()) {
                found.push(key);
            }
        }
        Ok((next, found))
    }
}
