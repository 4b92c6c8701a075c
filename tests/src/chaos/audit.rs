//! What lies in Redis at the end.

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use larder::Cache;
use serde::Serialize;

use super::{
    servers::Servers,
    truth::{ITEMS, Reading, Truth},
    world::far_regions,
};

/// Reads at once.
const AT_ONCE: usize = 16;

/// A value in Redis that is older than the truth: whoever reads it is told something that was invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The item.
    pub item: u32,
    /// The version in Redis.
    pub stored: u64,
    /// The version that is true.
    pub truth: u64,
}

/// Looks at every item in Redis, as a process that has just started would read it.
pub(super) async fn lost(servers: &Servers, truth: &Truth) -> Result<Vec<Lost>> {
    let witness = servers.witness().await?;
    let regions = far_regions(&witness)?;
    let looks = (0..ITEMS).map(|item| {
        let region = &regions[item as usize % 2];
        async move {
            let stored = region.try_get(&item).await.context("the last look into Redis failed")?;
            Ok::<_, anyhow::Error>(stored.map(|stored| (item, stored.version)))
        }
    });
    let stored: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut lost = Vec::new();
    for found in stored {
        let Some((item, stored)) = found? else { continue };
        let truth = truth.version(item);
        if stored < truth {
            lost.push(Lost { item, stored, truth });
        }
    }
    witness.shutdown().await;
    Ok(lost)
}

/// Puts the oldest value of some items into Redis, behind the back of every cache.
pub(super) async fn put_old_values(servers: &Servers, truth: &Truth) -> Result<()> {
    let witness = servers.witness().await?;
    let regions = far_regions(&witness)?;
    for item in (0..ITEMS).filter(|item| truth.version(*item) > 1).take(3) {
        regions[item as usize % 2].try_set(&item, Reading::new(item, 1)).await?;
    }
    witness.shutdown().await;
    Ok(())
}

/// Whether a value that stands in Redis alone reaches a cache.
pub(super) async fn reaches(cache: &Cache, key: &str, value: u64) -> bool {
    cache.get::<_, u64>(key).skip_near().await.is_some_and(|found| *found == value)
}
