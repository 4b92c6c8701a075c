//! Reads of single keys that callers make at about the same time go out as one pipeline.
//!
//! The commands stay GETs: each key has an answer, and an error, of its own.

use std::sync::Arc;

use larder_core::{Combiner, Error, ErrorKind, Gathered, Result};
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::{
    error,
    slot::Slot,
    socket::{Effect, Request},
};

/// The reads of single keys on one socket.
pub(crate) type Reads = Combiner<Cmd, Result<RedisResult<Value>>>;

type Read = Gathered<Cmd, Result<RedisResult<Value>>>;

/// GET of a key.
pub(crate) fn get(key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, key.len() + "GET".len());
    command.arg("GET").arg(key);
    command
}

impl Slot {
    /// Reads a key, together with other callers where there are some. Dropping the future leaves theirs alone.
    pub(crate) async fn read(self: &Arc<Self>, operation: &'static str, key: &str) -> Result<RedisResult<Value>> {
        let on_its_way = self.reads.begin();
        let gathered = if on_its_way.is_alone() {
            None
        } else {
            let slot = Arc::clone(self);
            let send = move |reads| {
                let slot = Arc::clone(&slot);
                async move { slot.send_reads(operation, reads).await }
            };
            self.reads.gather(|| get(key), send)
        };
        let Some(answer) = gathered else {
            // Boxed, so that those who wait for others' pipelines do not have its size.
            return Box::pin(self.exchange(operation, Effect::Read, Request::Get(key), 1)).await;
        };
        answer.await.unwrap_or_else(|_| {
            let message = "the task that read for several callers ended early; try again";
            Err(Error::new(ErrorKind::Unavailable, operation, message))
        })
    }

    /// Sends reads as one pipeline and deals the answers out.
    async fn send_reads(self: &Arc<Self>, operation: &'static str, reads: Vec<Read>) {
        let calls = u32::try_from(reads.len()).unwrap_or(u32::MAX);
        let mut pipeline = Pipeline::with_capacity(reads.len());
        let mut callers = Vec::with_capacity(reads.len());
        for Gathered { request, answer } in reads {
            pipeline.add_command(request);
            callers.push(answer);
        }
        let failure = match self.exchange(operation, Effect::Read, Request::Pipeline(&pipeline), calls).await {
            Ok(Ok(Value::Array(values))) if values.len() == callers.len() => {
                for (caller, value) in callers.into_iter().zip(values) {
                    // One that went away needs no answer.
                    drop(caller.send(Ok(Ok(value))));
                }
                return;
            }
            Ok(Ok(_)) => Err(error::unexpected(operation, "one answer for each command")),
            Ok(Err(error)) => Ok(Err(error)),
            Err(error) => Err(error),
        };
        for caller in callers {
            drop(caller.send(failure.clone()));
        }
    }
}
