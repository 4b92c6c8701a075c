//! A look at keys that are met by chance.

use std::{collections::HashSet, sync::Arc};

use futures_util::{
    StreamExt,
    future::try_join_all,
    stream::{self, BoxStream},
};
use larder_core::{Bytes, ErrorKind, Result, SamplePage, SampledKey};
use redis::{Pipeline, Value};
use xxhash_rust::xxh3::xxh3_128;

use crate::{RedisBackend, error, node::Node, reply, socket::Request};

/// How many keys are drawn for a page, over all primaries: what one of them works on in well under a millisecond.
const PAGE: usize = 100;

/// How much of a key is kept: Larder's own are at most half as long.
const LONGEST_KEY: usize = 1_024;

const OPERATION: &str = "sample";

/// How far a sample has come. Keys are remembered by their digests.
struct Drawing {
    shares: Vec<Share>,
    total: u64,
    seen: HashSet<u128>,
    /// Keys that were told, and those that may still be.
    found: u64,
    missing: usize,
    /// Draws that were made, and those that may still be.
    drawn: u64,
    left: usize,
}

/// A primary's share of the draws.
struct Share {
    node: Arc<Node>,
    /// How many keys the primaries before this one have, and those with this one.
    before: u64,
    up_to: u64,
    drawn: u64,
}

pub(super) fn pages(backend: &RedisBackend, keys: usize) -> BoxStream<'_, Result<SamplePage>> {
    let pages = stream::try_unfold(None, move |drawing: Option<Drawing>| async move {
        let (mut drawing, is_first) = match drawing {
            None => (Drawing::begin(backend, keys).await?, true),
            Some(drawing) => (drawing, false),
        };
        if drawing.is_over() && !is_first {
            return Ok(None);
        }
        let page = drawing.page().await?;
        Ok(Some((page, Some(drawing))))
    });
    pages.boxed()
}

impl Drawing {
    async fn begin(backend: &RedisBackend, keys: usize) -> Result<Self> {
        let primaries = backend.servers.primaries().await?;
        let sizes = try_join_all(primaries.iter().map(size_of)).await?;
        let mut total = 0;
        let mut shares = Vec::with_capacity(primaries.len());
        for (node, size) in primaries.into_iter().zip(sizes) {
            shares.push(Share { node, before: total, up_to: total + size, drawn: 0 });
            total += size;
        }
        let (left, missing) = (keys.saturating_mul(2), keys);
        Ok(Self { shares, total, seen: HashSet::new(), found: 0, missing, drawn: 0, left })
    }

    fn is_over(&self) -> bool {
        self.missing == 0 || self.left == 0 || self.found >= self.total
    }

    async fn page(&mut self) -> Result<SamplePage> {
        let mut page = SamplePage::default();
        page.total = self.total;
        if self.is_over() {
            return Ok(page);
        }
        let draws = self.left.min(PAGE);
        self.left -= draws;
        self.drawn += draws as u64;
        let mut drawn = try_join_all(self.shares.iter_mut().map(|share| share.draw(self.drawn, self.total))).await?;
        // More may be new than are missing; which primary they come from must not matter then.
        let mut new = Vec::new();
        for (index, keys) in drawn.iter_mut().enumerate() {
            new.extend(keys.drain(..).filter(|key| self.seen.insert(xxh3_128(key))).map(|key| (index, key)));
        }
        fastrand::shuffle(&mut new);
        new.truncate(self.missing);
        self.missing -= new.len();
        self.found += new.len() as u64;
        for (index, key) in new {
            drawn[index].push(key);
        }
        let told = try_join_all(self.shares.iter().zip(&drawn).map(|(share, keys)| tell(&share.node, keys))).await?;
        for answer in told.into_iter().flatten() {
            match answer {
                Answer::Key(key) => page.keys.push(key),
                Answer::Refused => page.refused += 1,
                Answer::Gone => {}
            }
        }
        Ok(page)
    }
}

impl Share {
    /// Draws this primary's part of so many draws in all.
    async fn draw(&mut self, all_draws: u64, total: u64) -> Result<Vec<Bytes>> {
        let wanted = part(all_draws, self.up_to, total) - part(all_draws, self.before, total);
        let count = wanted.saturating_sub(self.drawn);
        self.drawn += count;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::new();
        for _ in 0..count {
            pipeline.cmd("RANDOMKEY");
        }
        let answers = reply::array(OPERATION, self.node.ask(OPERATION, Request::Pipeline(&pipeline)).await?)?;
        let keys = answers.into_iter().filter_map(|answer| reply::bytes(OPERATION, answer).transpose());
        keys.collect()
    }
}

/// `draws * keys / total`: differences of it add up to all draws.
fn part(draws: u64, keys: u64, total: u64) -> u64 {
    let part = u128::from(draws) * u128::from(keys) / u128::from(total.max(1));
    u64::try_from(part).unwrap_or(draws)
}

async fn size_of(node: &Arc<Node>) -> Result<u64> {
    let size = reply::integer(OPERATION, node.ask(OPERATION, Request::Command(&redis::cmd("DBSIZE"))).await?)?;
    u64::try_from(size).map_err(|_| error::unexpected(OPERATION, "a number of keys"))
}

/// What a server says of a key.
enum Answer {
    Key(SampledKey),
    /// The user may not ask about it.
    Refused,
    Gone,
}

async fn tell(node: &Arc<Node>, keys: &[Bytes]) -> Result<Vec<Answer>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::new();
    for key in keys {
        pipeline.cmd("TYPE").arg(&key[..]).cmd("PTTL").arg(&key[..]).cmd("MEMORY").arg("USAGE").arg(&key[..]);
    }
    let mut answers = reply::array(OPERATION, node.ask(OPERATION, Request::Pipeline(&pipeline)).await?)?.into_iter();
    let mut told = Vec::with_capacity(keys.len());
    for key in keys {
        let mut next = || answers.next().ok_or_else(|| error::unexpected(OPERATION, "an answer to each question"));
        told.push(match answer_of(key, [next()?, next()?, next()?]) {
            Ok(Some(key)) => Answer::Key(key),
            Ok(None) => Answer::Gone,
            Err(error) if error.kind() == ErrorKind::Auth => Answer::Refused,
            // Its slot has moved.
            Err(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::Unavailable) => Answer::Gone,
            Err(error) => return Err(error),
        });
    }
    Ok(told)
}

fn answer_of(key: &[u8], [kind, remaining, bytes]: [Value; 3]) -> Result<Option<SampledKey>> {
    let kind = reply::bytes(OPERATION, kind)?.unwrap_or_default();
    let remaining = reply::remaining(OPERATION, remaining)?;
    let bytes = match reply::checked(OPERATION, bytes)? {
        Value::Nil => None,
        bytes => u64::try_from(reply::integer(OPERATION, bytes)?).ok(),
    };
    let told = remaining.zip(bytes);
    Ok(told.map(|(remaining, bytes)| SampledKey::new(shown(key), String::from_utf8_lossy(&kind), remaining, bytes)))
}

fn shown(key: &[u8]) -> String {
    match key.get(..LONGEST_KEY) {
        Some(start) if key.len() > LONGEST_KEY => format!("{}\u{2026}", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_shared_out_by_size_and_none_is_lost() {
        // 900, 90 and 10 keys.
        let ends = [0, 900, 990, 1_000];
        for (draws, expected) in [(1, [0, 0, 1]), (100, [90, 9, 1]), (1_000, [900, 90, 10]), (999, [899, 90, 10])] {
            let shares = [0, 1, 2].map(|it| part(draws, ends[it + 1], 1_000) - part(draws, ends[it], 1_000));
            assert_eq!(shares, expected, "{draws}");
        }
        assert_eq!(part(5, 0, 0), 0);
    }

    #[test]
    fn a_key_is_shown_as_far_as_it_can_be() {
        assert_eq!(shown(b"a\xff:b"), "a\u{fffd}:b");
        assert_eq!(shown(&[b'a'; LONGEST_KEY]).len(), LONGEST_KEY);
        assert_eq!(shown(&[b'a'; 5_000]).len(), LONGEST_KEY + "\u{2026}".len());
    }

    #[test]
    fn a_key_that_went_between_two_questions_is_left_out() {
        let kind = || Value::SimpleString("none".to_owned());
        assert_eq!(answer_of(b"k", [kind(), Value::Int(-2), Value::Nil]).unwrap(), None);
        assert_eq!(answer_of(b"k", [kind(), Value::Int(-1), Value::Nil]).unwrap(), None);
    }
}
