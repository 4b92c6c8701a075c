//! What the servers say of themselves.

mod combined;
mod info;
mod sample;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{future::try_join_all, stream::BoxStream};
use larder_core::{ErrorKind, Inspect, Result, SamplePage, ServerFigures, ServerSettings};
use redis::Pipeline;

use crate::{RedisBackend, error, node::Node, reply, socket::Request};

const OPERATION: &str = "server_figures";

#[async_trait]
impl Inspect for RedisBackend {
    /// INFO and DBSIZE of every primary, in a cluster CLUSTER INFO too: one round trip, all at once. Each of them has to
    /// answer. A server that is still loading answers without its number of keys.
    async fn server_figures(&self) -> Result<ServerFigures> {
        let is_cluster = self.servers.is_cluster();
        let primaries = self.servers.primaries().await?;
        let figures = try_join_all(primaries.iter().map(|node| figures_of(node, is_cluster))).await?;
        let mut figures = combined::combined(figures).ok_or_else(|| error::unexpected(OPERATION, "of any server"))?;
        if !is_cluster && self.servers.name() == "sentinel" {
            figures.mode = Some(self.servers.name().to_owned());
        }
        Ok(figures)
    }

    /// CONFIG GET of every primary, in one round trip. Nothing is known where an ACL or a provider forbids it.
    async fn settings(&self) -> Result<ServerSettings> {
        let primaries = self.servers.primaries().await?;
        let answers = try_join_all(primaries.iter().map(settings::settings_of)).await?;
        let mut all = ServerSettings::default();
        for (name, value) in answers.into_iter().flatten() {
            all.insert(name, value);
        }
        Ok(all)
    }

    /// RANDOMKEY, then TYPE, PTTL and MEMORY USAGE of what is new: two round trips to each primary for a page of up to
    /// 100 keys. Each primary is drawn from in proportion to its DBSIZE. At most twice as many keys are drawn as were
    /// asked for. The server counts TYPE and PTTL among its hits; nothing is touched for its eviction.
    ///
    /// A key that goes, or moves to another node, between the two is left out. Redis draws fairly from its hash table,
    /// though not perfectly so.
    fn sample(&self, keys: usize) -> BoxStream<'_, Result<SamplePage>> {
        sample::pages(self, keys)
    }
}

async fn figures_of(node: &Arc<Node>, is_cluster: bool) -> Result<ServerFigures> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INFO").cmd("DBSIZE");
    if is_cluster {
        pipeline.cmd("CLUSTER").arg("INFO");
    }
    let answer = node.ask(OPERATION, Request::Pipeline(&pipeline)).await?;
    let mut answers = reply::array(OPERATION, answer)?.into_iter();
    let mut next = || answers.next().ok_or_else(|| error::unexpected(OPERATION, "an answer to each question"));
    let info = reply::bytes(OPERATION, next()?)?.unwrap_or_default();
    let mut figures = info::figures_of(&info::fields(&String::from_utf8_lossy(&info)));
    figures.keys = match reply::integer(OPERATION, next()?) {
        Err(error) if error.kind() == ErrorKind::Loading => None,
        keys => u64::try_from(keys?).ok(),
    };
    if is_cluster {
        let cluster = reply::bytes(OPERATION, next()?)?.unwrap_or_default();
        info::add_cluster(&mut figures, &info::fields(&String::from_utf8_lossy(&cluster)));
    }
    Ok(figures)
}
