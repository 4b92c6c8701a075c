//! One multiplexed connection, and what its callers have seen of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock, SystemClock, Tick};
use redis::{Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::{combine, error, introduction::Introduction, manager::ask};

/// So many calls in a row must have given up on a silent socket before it counts as broken.
const PATIENCE_CALLS: u32 = 3;

/// A socket younger than this is kept on READONLY: the address led to the replica a moment ago.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// One multiplexed connection and what is known of it.
#[derive(Debug)]
pub(crate) struct Socket {
    connection: MultiplexedConnection,
    pub(crate) health: Arc<Health>,
    /// The number under which the server knows it.
    pub(crate) client: Option<i64>,
    /// Which run of which server it leads to.
    pub(crate) run: Option<Arc<str>>,
    /// See `vetting.rs`; 0 is "not yet".
    vetted_for: AtomicU64,
}

/// What sending something again, or losing its answer, would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Is about the server itself, not about keys.
    Question,
    /// Reads: may be sent again if the connection broke.
    Read,
    /// Changes something, and is sent once.
    Change,
    /// Stores a value whatever is there, and is sent once. If it is unknown whether it was carried out, it must not be
    /// carried out any more once its key is removed.
    Value,
}

impl Effect {
    pub(crate) fn is_repeatable(self) -> bool {
        matches!(self, Self::Question | Self::Read)
    }
}

/// What is sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// GET of this key; its answer. May go out together with others.
    Get(&'a str),
    /// One command; its answer.
    Command(&'a Cmd),
    /// The same for so many callers.
    Combined(&'a Cmd, u32),
    /// Several commands; an array with an answer for each.
    Pipeline(&'a Pipeline),
    /// Several commands carried out together; the answer of EXEC.
    Transaction(&'a Pipeline),
}

impl Request<'_> {
    /// How many callers wait for its answer.
    pub(crate) fn callers(&self) -> u32 {
        if let Self::Combined(_, callers) = self { *callers } else { 1 }
    }

    /// The same for a node of a cluster that is taking over the key's slot: it answers one command, or one transaction,
    /// after ASKING. The last answer is that of the request.
    pub(crate) fn with_asking(&self) -> Pipeline {
        let mut asking = Pipeline::new();
        match self {
            Self::Get(key) => {
                asking.cmd("ASKING").add_command(combine::get(key));
            }
            Self::Command(command) | Self::Combined(command, _) => {
                asking.cmd("ASKING").add_command((*command).clone());
            }
            Self::Pipeline(pipeline) => {
                for command in pipeline.cmd_iter() {
                    asking.cmd("ASKING").add_command(command.clone());
                }
            }
            Self::Transaction(pipeline) => {
                asking.cmd("ASKING").cmd("MULTI");
                pipeline.cmd_iter().for_each(|command| {
                    asking.add_command(command.clone());
                });
                asking.cmd("EXEC");
            }
        }
        asking
    }
}

impl Socket {
    pub(crate) fn new(connection: MultiplexedConnection, health: Arc<Health>, introduction: Introduction) -> Self {
        let Introduction { client, run, .. } = introduction;
        Self { connection, health, client, run, vetted_for: AtomicU64::new(0) }
    }

    pub(crate) fn vetted_for(&self) -> u64 {
        self.vetted_for.load(Ordering::Acquire)
    }

    pub(crate) fn vetted(&self, terms: u64) {
        self.vetted_for.fetch_max(terms, Ordering::AcqRel);
    }

    /// Sends a command of Larder's own, which says nothing of whether the connection is used. A refusal is an error.
    pub(crate) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        ask(&mut self.connection.clone(), command).await
    }

    /// Several of them; refusals are among the answers.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.connection.clone().send_packed_commands(commands, 0, commands.len()).await
    }

    /// Whether the server answers within this time.
    pub(crate) async fn ping(&self, patience: Duration) -> bool {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        let answer = tokio::time::timeout(patience, connection.send_packed_command(&ping)).await;
        let alive = matches!(answer, Ok(Ok(_)));
        if alive {
            self.health.heard();
        }
        alive
    }

    /// Sends and waits for the answer, no longer than the command deadline. Dropping the future leaves the connection
    /// usable; what was handed to it is carried out all the same. `calls` is how many callers wait for the answer.
    pub(crate) async fn send(&self, request: Request<'_>, calls: u32, deadline: Duration) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        let mut call = Call::begin(&self.health, calls, deadline);
        let answer = match request {
            Request::Get(key) => connection.send_packed_command(&combine::get(key)).await,
            Request::Command(command) | Request::Combined(command, _) => connection.send_packed_command(command).await,
            Request::Pipeline(pipeline) => {
                connection.send_packed_commands(pipeline, 0, pipeline.len()).await.map(Value::Array)
            }
            Request::Transaction(pipeline) => {
                let answers = connection.send_packed_commands(pipeline, pipeline.len() + 1, 1).await;
                answers.map(|mut answers| answers.pop().unwrap_or(Value::Nil))
            }
        };
        match &answer {
            Err(error) if error.is_timeout() => {}
            Err(error) => {
                call.answered();
                self.health.judge(error);
            }
            Ok(value) => {
                call.answered();
                self.health.judge_answer(value);
            }
        }
        answer
    }
}

/// Calls that wait for one answer; when that ends without any, they have given the socket up.
struct Call<'a> {
    health: &'a Health,
    calls: u32,
    deadline: Duration,
    answered: bool,
}

impl<'a> Call<'a> {
    fn begin(health: &'a Health, calls: u32, deadline: Duration) -> Self {
        health.sending();
        Self { health, calls, deadline, answered: false }
    }

    fn answered(&mut self) {
        self.answered = true;
        self.health.heard();
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.health.given_up(self.calls, self.deadline);
        }
    }
}

/// What the callers of one socket have seen of it. Times are ticks of the clock; 0 is "not".
#[derive(Debug)]
pub(crate) struct Health {
    clock: SystemClock,
    born: Tick,
    expires: Option<Tick>,
    broken: AtomicBool,
    /// The last answer.
    heard: AtomicU64,
    /// The first sending since the last answer.
    silent_since: AtomicU64,
    /// Calls that gave up since the last answer.
    given_up: AtomicU32,
}

impl Health {
    pub(crate) fn new(clock: SystemClock, lifetime: Option<Duration>) -> Self {
        let born = clock.now();
        // Sockets that were opened together are not replaced together.
        let expires = lifetime.map(|lifetime| born + lifetime.mul_f64(fastrand::f64().mul_add(-0.1, 1.0)));
        Self {
            clock,
            born,
            expires,
            broken: AtomicBool::new(false),
            heard: AtomicU64::new(born.as_nanos()),
            silent_since: AtomicU64::new(0),
            given_up: AtomicU32::new(0),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether nothing was heard for this long.
    pub(crate) fn is_idle(&self, limit: Duration) -> bool {
        self.clock.now().since(Tick::from_nanos(self.heard.load(Ordering::Relaxed))) >= limit
    }

    /// Whether it has lived for as long as a socket should.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| self.clock.now() >= expires)
    }

    pub(crate) fn condemn(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn heard(&self) {
        self.heard.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        self.silent_since.store(0, Ordering::Relaxed);
        self.given_up.store(0, Ordering::Relaxed);
    }

    fn sending(&self) {
        if self.silent_since.load(Ordering::Relaxed) == 0 {
            // Once a silence, and by the clock without steps: by the other one, which lags by some milliseconds, a deadline of a
            // few of them would seem to have passed when it began.
            self.silent_since.store(self.clock.now_precise().as_nanos(), Ordering::Relaxed);
        }
    }

    /// A reader that waits 50 ms says little of the link, and three of them within a moment neither: the silence must
    /// also have lasted for the command deadline.
    fn given_up(&self, calls: u32, deadline: Duration) {
        let calls = self.given_up.fetch_add(calls, Ordering::Relaxed).saturating_add(calls);
        let since = self.silent_since.load(Ordering::Relaxed);
        let silent = || self.clock.now_precise().since(Tick::from_nanos(since));
        if calls >= PATIENCE_CALLS && since != 0 && silent() >= deadline {
            self.condemn();
        }
    }

    fn judge(&self, error: &RedisError) {
        if error::condemns_socket(error) || (error::is_read_only(error) && self.has_stood()) {
            self.condemn();
        }
    }

    /// Whether it is old enough to lead to what its address means by now.
    fn has_stood(&self) -> bool {
        self.clock.now().since(self.born) >= LEAST_AGE
    }

    fn judge_answer(&self, value: &Value) {
        let refused = match value {
            Value::ServerError(refused) => refused,
            Value::Array(values) => match values.iter().find(|value| matches!(value, Value::ServerError(_))) {
                Some(Value::ServerError(refused)) => refused,
                _ => return,
            },
            _ => return,
        };
        let replica = refused.kind() == Some(ServerErrorKind::ReadOnly);
        // The name may lead to another server by now: after a failover to the new primary.
        if refused.code() == "NOAUTH" || (replica && self.has_stood()) {
            self.condemn();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_clears_a_socket_of_all_suspicion() {
        let health = Health::new(SystemClock::new(), None);
        for _ in 0..PATIENCE_CALLS - 1 {
            health.sending();
            health.given_up(1, Duration::ZERO);
        }
        health.heard();
        health.sending();
        health.given_up(1, Duration::ZERO);
        assert!(!health.is_broken());
    }

    #[test]
    fn a_socket_without_a_lifetime_does_not_expire_and_one_that_has_lived_does() {
        let clock = SystemClock::new();
        assert!(!Health::new(clock, None).is_expired());
        assert!(!Health::new(clock, Some(Duration::from_secs(60))).is_expired());
        assert!(Health::new(clock, Some(Duration::ZERO)).is_expired());
    }

    #[test]
    fn a_socket_is_broken_after_a_few_calls_that_gave_up_on_its_silence() {
        let health = Health::new(SystemClock::new(), None);
        for _ in 0..PATIENCE_CALLS {
            assert!(!health.is_broken());
            health.sending();
            health.given_up(1, Duration::ZERO);
        }
        assert!(health.is_broken());
    }

    #[test]
    fn calls_that_are_dropped_at_once_do_not_break_a_socket() {
        let health = Health::new(SystemClock::new(), None);
        for _ in 0..100 {
            health.sending();
            health.given_up(1, Duration::from_secs(60));
        }
        assert!(!health.is_broken());
    }
}
