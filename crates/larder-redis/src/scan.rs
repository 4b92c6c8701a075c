//! Listing keys by pattern.

use std::{collections::HashSet, str, sync::Arc};

use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use larder_core::{Error, ErrorKind, Key, Pattern, Result, Scan};
use redis::{Cmd, Value};

use crate::{RedisBackend, error, node::Node, reply, socket::Request, topology::Survey};

/// What the server is asked to look at in one round trip: more would block it for long.
const LARGEST_PAGE: usize = 10_000;

/// How often a cluster is gone through because slots moved meanwhile.
const MOST_PASSES: usize = 8;

const OPERATION: &str = "scan";

impl Scan for RedisBackend {
    /// SCAN with MATCH: a page is what one round trip found, deduplicated, and never empty. The server looks at about
    /// `page` keys (at most 10,000) for it, so that a rare pattern takes many round trips. The next page is asked for
    /// when it is wanted. Keys that are not UTF-8 cannot be Larder's and are left out.
    ///
    /// In a cluster every primary is gone through, one after the other; and once more where slots were being moved, or
    /// had moved, since a key on its way could have been missed. A cluster that comes to no rest within eight passes is
    /// [`Unavailable`](ErrorKind::Unavailable) at the end.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let count = page.clamp(1, LARGEST_PAGE);
        let pages = stream::try_unfold(Walk::Pass(0), move |walk| async move {
            let Some(mut pass) = self.next_pass(walk).await? else { return Ok(None) };
            let (next, keys) = scan_page(&pass.nodes[pass.at], pattern, pass.cursor, count).await?;
            pass.cursor = next;
            if next == 0 {
                pass.at += 1;
            }
            let walk = if pass.at < pass.nodes.len() { Walk::Within(pass) } else { Walk::Passed(pass) };
            Ok(Some((keys, walk)))
        });
        pages.try_filter(|keys| std::future::ready(!keys.is_empty())).boxed()
    }
}

/// How far a scan has come.
enum Walk {
    /// A pass begins: the first is 0.
    Pass(usize),
    /// There are pages left.
    Within(Pass),
    /// All pages of a pass were asked for.
    Passed(Pass),
}

/// One way through all primaries.
struct Pass {
    number: usize,
    survey: Survey,
    nodes: Vec<Arc<Node>>,
    at: usize,
    cursor: u64,
}

impl RedisBackend {
    /// Where to go on; `None` at the end.
    async fn next_pass(&self, walk: Walk) -> Result<Option<Pass>> {
        let number = match walk {
            Walk::Within(pass) => return Ok(Some(pass)),
            Walk::Pass(number) => number,
            Walk::Passed(pass) if !self.servers.is_cluster() => {
                drop(pass);
                return Ok(None);
            }
            Walk::Passed(pass) if self.servers.survey().await?.layout == pass.survey.layout => return Ok(None),
            Walk::Passed(pass) => pass.number + 1,
        };
        if number == MOST_PASSES {
            let message = "the cluster's slots went on moving, so that keys may have been missed; try again later";
            return Err(Error::new(ErrorKind::Unavailable, OPERATION, message));
        }
        let survey = self.servers.survey().await?;
        let mut nodes = survey.primaries.clone();
        if survey.is_moving {
            // A key goes from one node to another: the one must be gone through before the other, whichever they are.
            nodes.extend_from_within(..);
        }
        if nodes.is_empty() {
            return Err(error::unexpected(OPERATION, "of any server"));
        }
        Ok(Some(Pass { number, survey, nodes, at: 0, cursor: 0 }))
    }
}

async fn scan_page(node: &Node, pattern: &Pattern, cursor: u64, count: usize) -> Result<(u64, Vec<Key>)> {
    let mut command = Cmd::with_capacity(6, pattern.as_str().len() + 64);
    command.arg("SCAN").arg(cursor).arg("MATCH").arg(pattern.as_str()).arg("COUNT").arg(count);
    let answer = reply::array(OPERATION, node.ask(OPERATION, Request::Command(&command)).await?)?;
    let [next, keys] = <[Value; 2]>::try_from(answer).map_err(|_| error::unexpected(OPERATION, "a cursor and keys"))?;
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
