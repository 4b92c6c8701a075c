//! Batches: what goes out together, on which socket, and how the answers come back in the order of the input.

use futures_util::future::join_all;
use larder_core::{Each, Error, ErrorKind, Key, Result};
use redis::{Pipeline, Value};

use crate::{RedisBackend, error, manager::Request, reply, sockets::Call};

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
    pub(crate) repeatable: bool,
    pub(crate) keys: &'a [&'a Key],
    /// Bytes beside the key that an input sends.
    pub(crate) payload: &'a (dyn Fn(usize) -> usize + Sync),
    pub(crate) width: usize,
    /// Appends an input's commands.
    pub(crate) encode: E,
    /// Reads an input's answers.
    pub(crate) decode: D,
}

impl RedisBackend {
    /// Runs a batch over the inputs that have no answer yet: each socket's share in chunks, one after the other, the
    /// sockets side by side. After a chunk that failed for the connection's sake, the rest of its socket is not tried.
    pub(crate) async fn run<T, E, D>(&self, batch: Batch<'_, T, E, D>, mut answers: Answers<T>) -> Each<T>
    where
        T: Send,
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); self.sockets.count()];
        for index in answers.open() {
            shares[self.sockets.slot_of(batch.keys[index].as_str())].push(index);
        }
        let shares = shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty());
        let runs = shares.map(|(slot, share)| self.run_share(&batch, slot, share));
        for (index, answer) in join_all(runs).await.into_iter().flatten() {
            answers.put(index, answer);
        }
        answers.finish(batch.operation)
    }

    async fn run_share<T, E, D>(
        &self,
        batch: &Batch<'_, T, E, D>,
        slot: usize,
        share: Vec<usize>,
    ) -> Vec<(usize, Result<T>)>
    where
        T: Send,
        E: Fn(usize, &mut Pipeline) + Sync,
        D: Fn(usize, &mut dyn Iterator<Item = Value>) -> Result<T> + Sync,
    {
        let mut answers = Vec::with_capacity(share.len());
        let mut down: Option<Error> = None;
        let cost = |index: usize| batch.keys[index].as_str().len() + (batch.payload)(index) + OVERHEAD_BYTES;
        for chunk in self.chunks(&share, cost) {
            if let Some(error) = &down {
                answers.extend(chunk.iter().map(|index| (*index, Err(error.clone().with_key(batch.keys[*index])))));
                continue;
            }
            let mut pipeline = Pipeline::with_capacity(chunk.len() * batch.width);
            chunk.iter().for_each(|index| (batch.encode)(*index, &mut pipeline));
            let call = Call { operation: batch.operation, slot, repeatable: batch.repeatable };
            match self.send_pipeline(call, &pipeline).await {
                Ok(values) => {
                    let mut values = values.into_iter();
                    answers.extend(chunk.iter().map(|index| {
                        let answer = (batch.decode)(*index, &mut values);
                        (*index, answer.map_err(|error| error.with_key(batch.keys[*index])))
                    }));
                }
                Err(error) => {
                    answers.extend(chunk.iter().map(|index| (*index, Err(error.clone().with_key(batch.keys[*index])))));
                    down = Some(error);
                }
            }
        }
        answers
    }

    /// Sends a pipeline, which gives exactly one answer for each command.
    async fn send_pipeline(&self, call: Call, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let mut commands = pipeline.cmd_iter();
        let values = match (commands.next(), commands.next()) {
            (Some(only), None) => vec![self.sockets.send(call, Request::Command(only)).await?],
            _ => reply::array(call.operation, self.sockets.send(call, Request::Pipeline(pipeline)).await?)?,
        };
        if values.len() != pipeline.len() {
            return Err(error::unexpected(call.operation, "one answer for each command"));
        }
        Ok(values)
    }

    /// Cuts a share into what goes out in one round trip.
    pub(crate) fn chunks<'a>(&self, share: &'a [usize], cost: impl Fn(usize) -> usize) -> Vec<&'a [usize]> {
        let config = self.sockets.config();
        cut(share, cost, config.batch_keys, config.batch_bytes)
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
