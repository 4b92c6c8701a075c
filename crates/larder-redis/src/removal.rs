//! Removals that are told of in the same step.
//!
//! Keys that lie together are removed by one transaction that ends with the message: the server carries out all of it or
//! nothing, so that neither a crash of this process nor a broken connection leaves a key removed that nobody was told of.
//! It is one command's worth of bytes, handed to the connection at once.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use larder_core::{Announcement, Each, Error, ErrorKind, Key, Result};
use redis::{ErrorKind as RedisKind, Pipeline, RedisError, ServerErrorKind, Value};

use crate::{RedisBackend, error, error::first_of_transaction, reply, socket::Request, topology::Call};

pub(crate) const OPERATION: &str = "remove_and_publish";

/// How many transactions of one call are on their way at once.
const TOGETHER: usize = 64;

const RIGHTS: &str = "nothing was removed, since the user lacks a right: a removal that others hear of takes `unlink`, `publish`, `multi` \
     and `exec`, the keys, and the channel; extend its ACL on the server";

impl RedisBackend {
    pub(crate) async fn remove_and_tell(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        self.servers.own_writes().gone(keys);
        let order: Vec<usize> = (0..keys.len()).collect();
        let mut answers: Vec<Option<Result<bool>>> = keys.iter().map(|_| None).collect();
        let groups = self.groups(&order, keys);
        // Collected, since a lazy stream of borrowing futures is not known to be `Send`.
        let removals: Vec<_> = groups.iter().map(|group| self.remove_group(keys, group, channel, message)).collect();
        let mut done = stream::iter(removals).buffer_unordered(TOGETHER);
        while let Some(removed) = done.next().await {
            for (index, answer) in removed {
                answers[index] = Some(answer.map_err(|error| error.with_key(&keys[index])));
            }
        }
        let missing = || Err(error::unexpected(OPERATION, "one answer for each key"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// What goes into one transaction: keys of one socket, so that a removal never overtakes a write of its key, and in a
    /// cluster of one slot; no more than a batch may have.
    fn groups(&self, order: &[usize], keys: &[Key]) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for index in order {
            groups.entry(self.servers.neighbourhood(keys[*index].as_str())).or_default().push(*index);
        }
        let cost = |index: usize| keys[index].as_str().len();
        groups.values().flat_map(|group| self.chunks(group, cost).into_iter().map(<[usize]>::to_vec)).collect()
    }

    async fn remove_group(
        &self,
        keys: &[Key],
        group: &[usize],
        channel: &str,
        message: &Announcement,
    ) -> Vec<(usize, Result<bool>)> {
        match self.remove_together(keys, group, channel, message).await {
            // The slot is on its way to another node, and its keys are on both: none of them was removed.
            Ok(Err(error)) if group.len() > 1 && is_divided(&error) => {
                let mut removed = Vec::with_capacity(group.len());
                for index in group {
                    let one = self.remove_together(keys, std::slice::from_ref(index), channel, message).await;
                    removed.extend(answers_of(std::slice::from_ref(index), one));
                }
                removed
            }
            sent => answers_of(group, sent),
        }
    }

    async fn remove_together(
        &self,
        keys: &[Key],
        group: &[usize],
        channel: &str,
        message: &Announcement,
    ) -> Result<Result<Value, RedisError>> {
        let keys: Vec<Key> = group.iter().map(|index| keys[*index].clone()).collect();
        let mut pipeline = Pipeline::with_capacity(keys.len() + 1);
        pipeline.atomic();
        for key in &keys {
            pipeline.cmd("UNLINK").arg(key.as_str());
        }
        pipeline.cmd("PUBLISH").arg(channel).arg(&message(&keys)[..]);
        let call = Call::write(OPERATION, keys[0].as_str());
        let answer = self.servers.send_raw(call, Request::Transaction(&pipeline)).await?;
        // A node that takes over the slot refuses in its answer to EXEC.
        let answer = answer.and_then(Value::extract_error);
        match answer {
            // A server without memory takes no transactions, whatever is in them, but carries out these commands. They go
            // out together as before; only a connection that breaks between them can now tear them apart.
            Err(error) if is_out_of_memory(&error) => {
                let mut apart = Pipeline::with_capacity(group.len() + 1);
                pipeline.cmd_iter().for_each(|command| {
                    apart.add_command(command.clone());
                });
                self.servers.send_raw(call, Request::Pipeline(&apart)).await
            }
            answer => Ok(answer),
        }
    }
}

fn is_out_of_memory(error: &RedisError) -> bool {
    first_of_transaction(error.clone()).code() == Some("OOM")
}

fn is_divided(error: &RedisError) -> bool {
    let kind = first_of_transaction(error.clone()).kind();
    matches!(kind, RedisKind::Server(ServerErrorKind::Ask | ServerErrorKind::TryAgain))
}

/// The answer of EXEC, key by key. Only where the message was sent too is a removal done.
fn answers_of(group: &[usize], sent: Result<Result<Value, RedisError>>) -> Vec<(usize, Result<bool>)> {
    let answers = sent.and_then(|answer| answer.map_err(refusal)).and_then(|answer| {
        let mut answers = reply::array(OPERATION, answer)?;
        if answers.len() != group.len() + 1 {
            return Err(error::unexpected(OPERATION, "one answer for each key and one for the message"));
        }
        reply::integer(OPERATION, answers.pop().unwrap_or(Value::Nil))?;
        Ok(answers)
    });
    match answers {
        Ok(answers) => {
            group.iter().zip(answers).map(|(index, answer)| (*index, reply::flag(OPERATION, answer))).collect()
        }
        Err(error) => group.iter().map(|index| (*index, Err(error.clone()))).collect(),
    }
}

fn refusal(error: RedisError) -> Error {
    let error = first_of_transaction(error);
    if error.kind() == RedisKind::Server(ServerErrorKind::NoPerm) {
        return Error::new(ErrorKind::Auth, OPERATION, RIGHTS).with_source(error);
    }
    error::from_redis(OPERATION, error)
}
