//! The cache as the sink of invalidations.

use async_trait::async_trait;
use larder_core::{Invalidated, InvalidationSink, Result, Target};

use crate::Cache;

#[async_trait]
impl InvalidationSink for Cache {
    async fn invalidate(&self, target: Target) -> Result<Invalidated> {
        self.engine.invalidate(target).await
    }

    async fn preview(&self, target: &Target) -> Result<Option<u64>> {
        self.engine.preview(target).await
    }

    fn namespace_prefix(&self) -> &str {
        &self.engine.prefix
    }
}
