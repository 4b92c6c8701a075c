//! Other Redis clients that applications use. For information.

use anyhow::{Context, Result};
use deadpool_redis::{Pool as Deadpool, redis::AsyncCommands};
use fred::{
    clients::{Client, Pool},
    interfaces::{ClientLike, KeysInterface},
    prelude::{Builder, Config},
    types::RespVersion,
};

/// fred with one pipelined connection and with four, and deadpool with a conventional pool.
pub(crate) struct Rivals {
    one: Client,
    four: Pool,
    deadpool: Deadpool,
}

impl Rivals {
    pub(crate) async fn start(url: &str, pool: usize) -> Result<Self> {
        let mut config = Config::from_url(url)?;
        config.version = RespVersion::RESP3;
        let builder = Builder::from_config(config);
        let (one, four) = (builder.build()?, builder.build_pool(4)?);
        one.init().await?;
        four.init().await?;
        let mut settings = deadpool_redis::Config::from_url(url);
        settings.pool = Some(deadpool_redis::PoolConfig::new(pool));
        let deadpool = settings.create_pool(Some(deadpool_redis::Runtime::Tokio1))?;
        Ok(Self { one, four, deadpool })
    }

    pub(crate) async fn fred_one(&self, key: &str) -> Result<usize> {
        let found: Option<Vec<u8>> = self.one.get(key).await?;
        Ok(found.context("a read of fred's missed")?.len())
    }

    pub(crate) async fn fred_four(&self, key: &str) -> Result<usize> {
        let found: Option<Vec<u8>> = self.four.get(key).await?;
        Ok(found.context("a read of fred's missed")?.len())
    }

    pub(crate) async fn deadpool(&self, key: &str) -> Result<usize> {
        let found: Option<Vec<u8>> = self.deadpool.get().await?.get(key).await?;
        Ok(found.context("a read of deadpool's missed")?.len())
    }
}
