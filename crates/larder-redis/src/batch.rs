//! Batches: what goes out together, on which socket, and how the answers come back in the order of the input.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use larder_core::{Each, Error, ErrorKind, Key, Result};
use redis::{Pipeline, Value};
use tokio::time::sleep;

use crate::{
    RedisBackend, error,
    node::Node,
    reply,
    socket::{Effect, Request},
    topology::{Call, Redirect, Route},
};

/// What a key costs in a command beside its bytes: the command's name, the lengths and the options.
const OVERHEAD_BYTES: usize = 64;

/// The answers to a batch, filled in as they come.
pub(crate) struct Answers<T>(Vec<Option<Result<T>>>);

impl<T> Answers<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(|| None).take(count).collect())
    }

    pub(crate) fn put(&mut self, index: usize, answer: Result<T>) {
        self.0[index] = Some(answer);
    }

    /// The inputs that have no answer yet.
    pub(crate) fn open(&self) -> Vec<usize> {
        self.0.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(index, _)| index).collect()
    }

    pub(crate) fn finish(self, operation: &'static str) -> Each<T> {
        let missing = || Err(error::unexpected(operation, "one answer for each key"));
        self.0.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }
}

/// A batch of commands, `width` of them for each input.
pub(crate) struct Batch<'a, T, E, D>
where
    E: Fn(usize, &mut Pipeline) + Sync,
    D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
{
    pub(crate) operation: &'static str,
    pub(crate) effect: Effect,
    /// A read that a replica may answer.
    pub(crate) replica: bool,
    pub(crate) keys: &'a [&'a Key],
    /// Bytes beside the key that an input sends.
    pub(crate) payload: &'a (dyn Fn(usize) -> usize + Sync),
    pub(crate) width: usize,
    /// Appends an input's commands.
    pub(crate) encode: E,
    /// Reads an input's answers.
    pub(crate) decode: D,
}

/// How often what was refused by a node of a cluster is sent on.
const MOST_ROUNDS: usize = 6;

/// How long to wait where a slot is between two nodes.
const PAUSE: Duration = Duration::from_millis(20);

/// Inputs that go out on one socket, one chunk after the other.
struct Share {
    route: Route,
    asking: bool,
    inputs: Vec<usize>,
}

/// What became of one input.
enum Fate<T> {
    Answered(Result<T>),
    /// Refused by a node that is not the one for it.
    Redirected(Redirect),
    /// The node did not answer, and the input may be sent to another.
    Lost(Error),
}

impl RedisBackend {
    /// Runs a batch over the inputs that have no answer yet: each socket's share in chunks, one after the other, the
    /// sockets and servers side by side. After a chunk that failed for the connection's sake, the rest of its socket is
    /// not tried. What a node of a cluster refuses because it is not the one for it is sent on, by itself.
    pub(crate) async fn run<T, E, D>(&self, batch: Batch<'_, T, E, D>, mut answers: Answers<T>) -> Each<T>
    where
        T: Send,
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut asked: HashMap<usize, Arc<Node>> = HashMap::new();
        let (mut last, mut looked_again) = (HashMap::new(), false);
        for round in 1..=MOST_ROUNDS {
            let shares = self.shares(&batch, &mut answers, &mut asked).await;
            if shares.is_empty() {
                break;
            }
            let (mut lost, mut later) = (Vec::new(), false);
            for (index, fate) in
                join_all(shares.iter().map(|share| self.run_share(&batch, share))).await.into_iter().flatten()
            {
                match fate {
                    Fate::Answered(answer) => answers.put(index, answer),
                    Fate::Lost(error) if looked_again || round == MOST_ROUNDS => answers.put(index, Err(error)),
                    Fate::Lost(error) => lost.push((index, error)),
                    Fate::Redirected(redirect) => {
                        later |= redirect == Redirect::Later;
                        let node = self.servers.learn(&redirect);
                        if let (Redirect::Ask { .. }, Some(node)) = (&redirect, node) {
                            asked.insert(index, node);
                        }
                        last.insert(index, redirect);
                    }
                }
            }
            if !lost.is_empty() {
                looked_again = true;
                if !self.servers.look_again().await {
                    lost.into_iter().for_each(|(index, error)| answers.put(index, Err(error)));
                }
            }
            if later {
                sleep(PAUSE).await;
                self.servers.look_again().await;
            }
        }
        for index in answers.open() {
            let moved = error::unsettled(batch.operation, last.get(&index));
            answers.put(index, Err(moved.with_key(batch.keys[index])));
        }
        answers.finish(batch.operation)
    }

    /// Where the inputs without an answer go.
    async fn shares<T, E, D>(
        &self,
        batch: &Batch<'_, T, E, D>,
        answers: &mut Answers<T>,
        asked: &mut HashMap<usize, Arc<Node>>,
    ) -> Vec<Share>
    where
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut shares: Vec<Share> = Vec::new();
        for index in answers.open() {
            let key = batch.keys[index];
            let (route, asking) = match asked.remove(&index) {
                Some(node) => (Route::of(node, key.as_str()), true),
                None => match self.servers.route(batch.call(key)).await {
                    Ok(route) => (route, false),
                    Err(error) => {
                        answers.put(index, Err(error.with_key(key)));
                        continue;
                    }
                },
            };
            match shares.iter_mut().find(|share| share.asking == asking && share.route.is_same(&route)) {
                Some(share) => share.inputs.push(index),
                None => shares.push(Share { route, asking, inputs: vec![index] }),
            }
        }
        shares
    }

    async fn run_share<T, E, D>(&self, batch: &Batch<'_, T, E, D>, share: &Share) -> Vec<(usize, Fate<T>)>
    where
        T: Send,
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut fates = Vec::with_capacity(share.inputs.len());
        let mut down: Option<(Error, bool)> = None;
        let cost = |index: usize| batch.keys[index].as_str().len() + (batch.payload)(index) + OVERHEAD_BYTES;
        for chunk in self.chunks(&share.inputs, cost) {
            let sent = match &down {
                // What was never sent may always go elsewhere.
                Some((error, _)) => Err((error.clone(), false)),
                None => self.send_chunk(batch, share, chunk).await,
            };
            match sent {
                Ok(values) => {
                    let mut values = values.into_iter();
                    fates.extend(chunk.iter().map(|index| (*index, self.fate(batch, share, *index, &mut values))));
                }
                Err((error, was_sent)) => {
                    let may_go_elsewhere = self.servers.is_cluster()
                        && (batch.effect.is_repeatable() || !was_sent)
                        && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
                    fates.extend(chunk.iter().map(|index| {
                        let error = error.clone().with_key(batch.keys[*index]);
                        (*index, if may_go_elsewhere { Fate::Lost(error) } else { Fate::Answered(Err(error)) })
                    }));
                    down = Some((error, was_sent));
                }
            }
        }
        fates
    }

    fn fate<T, E, D>(
        &self,
        batch: &Batch<'_, T, E, D>,
        share: &Share,
        index: usize,
        values: &mut dyn Iterator<Item = Value>,
    ) -> Fate<T>
    where
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let key = batch.keys[index];
        if !self.servers.is_cluster() {
            return Fate::Answered((batch.decode)(index, values).map_err(|error| error.with_key(key)));
        }
        let own: Vec<Value> = values.take(batch.width).collect();
        if let Some(redirect) = own.iter().find_map(|value| share.route.redirect(value)) {
            return Fate::Redirected(redirect);
        }
        Fate::Answered((batch.decode)(index, &mut own.into_iter()).map_err(|error| error.with_key(key)))
    }

    /// One round trip; the error says whether something was sent.
    async fn send_chunk<T, E, D>(
        &self,
        batch: &Batch<'_, T, E, D>,
        share: &Share,
        chunk: &[usize],
    ) -> Result<Vec<Value>, (Error, bool)>
    where
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut pipeline = Pipeline::with_capacity(chunk.len() * batch.width);
        chunk.iter().for_each(|index| (batch.encode)(*index, &mut pipeline));
        if share.asking {
            pipeline = Request::Pipeline(&pipeline).with_asking();
        }
        let mut commands = pipeline.cmd_iter();
        let only = match (commands.next(), commands.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        let request = only.map_or(Request::Pipeline(&pipeline), Request::Command);
        let Route { node, socket } = &share.route;
        let sent = node.send(batch.operation, *socket, batch.effect, request).await.map_err(|error| (error, false))?;
        let answer = sent.map_err(|error| (error::from_redis(batch.operation, error), true))?;
        let mut values = match only {
            Some(_) => vec![answer],
            None => reply::array(batch.operation, answer).map_err(|error| (error, true))?,
        };
        if values.len() != pipeline.len() {
            return Err((error::unexpected(batch.operation, "one answer for each command"), true));
        }
        if share.asking {
            values = values.into_iter().skip(1).step_by(2).collect();
        }
        Ok(values)
    }

    /// Cuts a share into what goes out in one round trip.
    pub(crate) fn chunks<'a>(&self, share: &'a [usize], cost: impl Fn(usize) -> usize) -> Vec<&'a [usize]> {
        let config = self.servers.config();
        cut(share, cost, config.batch_keys, config.batch_bytes)
    }
}

impl<'a, T, E, D> Batch<'a, T, E, D>
where
    E: Fn(usize, &mut Pipeline) + Sync,
    D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
{
    fn call(&self, key: &'a Key) -> Call<'a> {
        Call { operation: self.operation, key: key.as_str(), effect: self.effect, replica: self.replica }
    }
}

fn cut(share: &[usize], cost: impl Fn(usize) -> usize, most_keys: usize, most_bytes: usize) -> Vec<&[usize]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (position, index) in share.iter().enumerate() {
        let more = cost(*index);
        if position > start && (position - start >= most_keys || bytes + more > most_bytes) {
            chunks.push(&share[start..position]);
            (start, bytes) = (position, 0);
        }
        bytes += more;
    }
    if start < share.len() {
        chunks.push(&share[start..]);
    }
    chunks
}

/// The next answer of a batch, checked by `read`.
pub(crate) fn next<T>(
    operation: &'static str,
    values: &mut dyn Iterator<Item = Value>,
    read: fn(&'static str, Value) -> Result<T>,
) -> Result<T> {
    let missing = || Error::new(ErrorKind::Protocol, operation, "the server answered fewer commands than it was sent");
    values.next().ok_or_else(missing).and_then(|value| read(operation, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_at_the_number_of_keys_and_at_the_number_of_bytes() {
        let share: Vec<usize> = (0..7).collect();
        assert_eq!(cut(&share, |_| 1, 3, 100), [&[0, 1, 2][..], &[3, 4, 5], &[6]]);
        assert_eq!(
            cut(&share, |index| if index == 2 { 500 } else { 40 }, 100, 100),
            [&[0, 1][..], &[2], &[3, 4], &[5, 6]]
        );
        assert!(cut(&[], |_| 1, 3, 100).is_empty());
    }
}
