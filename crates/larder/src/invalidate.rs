//! The cache as the sink of invalidations.

use async_trait::async_trait;
use larder_core::{Invalidated, InvalidationSink, Result, Scanned, Target};

use crate::Cache;

#[async_trait]
impl InvalidationSink for Cache {
    async fn invalidate(&self, target: Target) -> Result<Invalidated> {
        self.engine.invalidate(target).await
    }

    async fn invalidate_watched(&self, target: Target, watch: &mut (dyn FnMut(Scanned) + Send)) -> Result<Invalidated> {
        self.engine.invalidate_watched(target, watch).await
    }

    async fn preview(&self, target: &Target) -> Result<Option<u64>> {
        self.engine.preview(target).await
    }

    fn namespace_prefix(&self) -> &str {
        &self.engine.prefix
    }
}
