//! Near hits of other caches that applications use in Larder's place. For information.

use std::{hint::black_box, sync::Arc};

use anyhow::{Context, Result};
use foyer::{Cache, CacheBuilder, CacheProperties};
use futures_executor::block_on;

use crate::{
    caches::{Caches, VALUE_BYTES},
    contest::Contestant,
    near::Near,
    workload::{Document, KEYS},
};

type Foyer = Cache<String, Arc<Document>>;

#[cached::macros::cached(max_size = 20_000, ttl_secs = 86_400)]
async fn memoized(id: u64) -> Arc<Document> {
    Arc::new(Document::of_bytes(id, VALUE_BYTES))
}

/// The places of Larder's counterparts among its ways to read.
const BY_PATH: usize = 2;
const BY_ATTRIBUTE: usize = 3;

/// Each with the place of Larder's counterpart.
pub(crate) fn contestants<'a>(caches: &'a Caches, near: &Near<'a>) -> Result<Vec<(usize, Contestant<'a>)>> {
    let foyer = fill(caches)?;
    Ok(vec![
        (BY_PATH, near.contestant("foyer", move |id| drop(black_box(look(&foyer, caches, id))))),
        // Its hit takes an asynchronous lock, for which it waits while another thread has it.
        (BY_ATTRIBUTE, near.contestant("#[cached] of cached", |id| drop(black_box(block_on(memoized(u64::from(id))))))),
    ])
}

fn fill(caches: &Caches) -> Result<Foyer> {
    let foyer: Foyer = CacheBuilder::new(2 * KEYS as usize).build::<CacheProperties>();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for id in 0..KEYS {
        let value = Arc::new(Document::of_bytes(u64::from(id), VALUE_BYTES));
        drop(foyer.insert(caches.canonical(id).to_owned(), value));
        drop(runtime.block_on(memoized(u64::from(id))));
    }
    for id in 0..KEYS {
        look(&foyer, caches, id).context("foyer does not hold what was put into it")?;
    }
    Ok(foyer)
}

fn look(foyer: &Foyer, caches: &Caches, id: u32) -> Option<Arc<Document>> {
    foyer.get(caches.canonical(id)).map(|entry| Arc::clone(entry.value()))
}
