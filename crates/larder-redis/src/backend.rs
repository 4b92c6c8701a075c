//! Reads, writes, removals and lives.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all, stream};
use larder_core::{
    Atomic, Backend, BusSource, Condition, Counter, Each, Error, ErrorKind, Expiry, Found, GetOptions, Inspect, Key,
    Lineage, Lock, Remaining, Result, Scan, SetItem, SetOptions, SetOutcome, Tracking, Ttl, check_size, ttl_millis,
};
use redis::{Cmd, Pipeline, Value};

use crate::{
    RedisConfig, RedisState,
    batch::{Answers, Batch, next},
    error, reply,
    socket::{Effect, Request},
    topology::{Call, Servers},
};

/// How many chunks of one plain read are on their way at once.
const CHUNKS_AHEAD: usize = 2;

/// Redis as Larder's backend: one server, the primary behind sentinels, or a cluster. See the [crate] for what it guarantees.
#[derive(Debug)]
pub struct RedisBackend {
    pub(crate) servers: Arc<Servers>,
}

impl RedisBackend {
    /// A backend that connects when it is first used, and again whenever it has to. Does not touch the network.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if the client library refuses the settings; never for the server's sake.
    pub fn new(config: RedisConfig) -> Result<Self> {
        Ok(Self { servers: Servers::new(config)? })
    }

    /// A backend whose server has answered. Dropping the future closes what it opened.
    ///
    /// # Errors
    /// As [`new`](Self::new), or what the server was lacking: [`Unavailable`](ErrorKind::Unavailable),
    /// [`Auth`](ErrorKind::Auth), [`Loading`](ErrorKind::Loading), [`Timeout`](ErrorKind::Timeout).
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        let backend = Self::new(config)?;
        backend.ping().await?;
        Ok(backend)
    }

    /// `standalone`, `sentinel` or `cluster`, as it is configured.
    #[must_use]
    pub fn topology(&self) -> &'static str {
        self.servers.name()
    }

    /// What the connections are doing. Does not touch the network.
    #[must_use]
    pub fn state(&self) -> RedisState {
        self.servers.state()
    }

    /// Sends one command about a key.
    pub(crate) async fn command(&self, call: Call<'_>, key: &Key, command: &Cmd) -> Result<Value> {
        self.servers.send(call, Request::Command(command)).await.map_err(|error| error.with_key(key))
    }

    pub(crate) fn check_value(&self, operation: &'static str, key: &Key, value: &[u8]) -> Result<()> {
        check_size(operation, key, value.len(), self.servers.config().max_value_bytes)
    }

    async fn get_one(&self, key: &Key, replica: bool) -> Result<Option<Found>> {
        let call = Call { replica, ..Call::read("get_many", key.as_str()) };
        let value = self.servers.send(call, Request::Get(key.as_str())).await;
        let value = value.and_then(|value| reply::bytes("get_many", value)).map_err(|error| error.with_key(key))?;
        Ok(value.map(|value| Found::new(value, None)))
    }

    /// MGET in chunks. Which socket carries a read does not matter: what was acknowledged is seen on all of them.
    async fn get_plain(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let first = keys.first().map_or("", Key::as_str);
        let all: Vec<usize> = (0..keys.len()).collect();
        let chunks = self.chunks(&all, |index| keys[index].as_str().len()).into_iter();
        let call = Call { replica: options.prefer_replica, ..Call::read("get_many", first) };
        // Collected, since a lazy stream of borrowing futures is not known to be `Send`.
        let reads: Vec<_> = chunks
            .map(|chunk| self.get_chunk(call, &keys[chunk[0]..=chunk[chunk.len() - 1]], options.combined))
            .collect();
        stream::iter(reads).buffered(CHUNKS_AHEAD).concat().await
    }

    async fn get_chunk(&self, call: Call<'_>, keys: &[Key], combined: bool) -> Each<Option<Found>> {
        let mut command = Cmd::with_capacity(keys.len() + 1, keys.iter().map(|key| key.as_str().len()).sum());
        command.arg("MGET");
        for key in keys {
            command.arg(key.as_str());
        }
        let callers = if combined { u32::try_from(keys.len()).unwrap_or(u32::MAX) } else { 1 };
        let values = async {
            let request = Request::Combined(&command, callers);
            let values = reply::array("get_many", self.servers.send(call, request).await?)?;
            let complete = values.len() == keys.len();
            complete.then_some(values).ok_or_else(|| error::unexpected("get_many", "one value for each key"))
        };
        match values.await {
            Err(error) => keys.iter().map(|key| Err(error.clone().with_key(key))).collect(),
            Ok(values) => values
                .into_iter()
                .zip(keys)
                .map(|(value, key)| match reply::bytes("get_many", value) {
                    Ok(value) => Ok(value.map(|value| Found::new(value, None))),
                    Err(error) => Err(error.with_key(key)),
                })
                .collect(),
        }
    }

    /// Keys of a cluster lie in many slots, which one MGET may not name: GETs, together for each socket.
    async fn get_apart(&self, keys: &[Key], replica: bool) -> Each<Option<Found>> {
        let operation = "get_many";
        let batch = Batch {
            operation,
            effect: Effect::Read,
            replica,
            keys: &keys.iter().collect::<Vec<_>>(),
            payload: &|_| 0,
            width: 1,
            encode: |index: usize, pipeline: &mut Pipeline| {
                pipeline.cmd("GET").arg(keys[index].as_str());
            },
            decode: |_, values: &mut dyn Iterator<Item = Value>| {
                Ok(next(operation, values, reply::bytes)?.map(|value| Found::new(value, None)))
            },
        };
        self.run(batch, Answers::new(keys.len())).await
    }

    async fn get_with_ttl(&self, keys: &[Key], replica: bool) -> Each<Option<Found>> {
        let operation = "get_many";
        let batch = Batch {
            operation,
            effect: Effect::Read,
            replica,
            keys: &keys.iter().collect::<Vec<_>>(),
            payload: &|_| 0,
            width: 2,
            encode: |index: usize, pipeline: &mut Pipeline| {
                pipeline.cmd("GET").arg(keys[index].as_str()).cmd("PTTL").arg(keys[index].as_str());
            },
            decode: |_, values: &mut dyn Iterator<Item = Value>| {
                let value = next(operation, values, reply::bytes);
                let remaining = next(operation, values, reply::remaining);
                // A key that expired between the two commands is gone.
                Ok(value?.zip(remaining?).map(|(value, remaining)| Found::new(value, Some(remaining))))
            },
        };
        self.run(batch, Answers::new(keys.len())).await
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn name(&self) -> &str {
        "redis"
    }

    /// One value is read by GET, several by MGET, which takes a key of another kind than a string for absent where GET
    /// answers [`KindMismatch`](ErrorKind::KindMismatch); with TTLs each by GET and PTTL, and in a cluster each by GET.
    /// With `prefer_replica`, a replica behind sentinels or of a cluster answers where there is one in order.
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        // Boxed but for the usual case, so that it does not have their size.
        match keys {
            [] => Vec::new(),
            keys if options.with_ttl => Box::pin(self.get_with_ttl(keys, options.prefer_replica)).await,
            [key] if !options.combined => vec![self.get_one(key, options.prefer_replica).await],
            keys if self.servers.is_cluster() => Box::pin(self.get_apart(keys, options.prefer_replica)).await,
            keys => Box::pin(self.get_plain(keys, options)).await,
        }
    }

    /// Not atomic as a whole: some values may be stored while others are refused.
    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        let operation = "set_many";
        let mut answers = Answers::new(items.len());
        for (index, item) in items.iter().enumerate() {
            let checked = self.check_value(operation, &item.key, &item.value).and_then(|()| check_options(item));
            if let Err(error) = checked {
                answers.put(index, Err(error.with_key(&item.key)));
            }
        }
        let batch = Batch {
            operation,
            effect: Effect::Value,
            replica: false,
            keys: &items.iter().map(|item| &item.key).collect::<Vec<_>>(),
            payload: &|index: usize| items[index].value.len(),
            width: 1,
            encode: |index: usize, pipeline: &mut Pipeline| {
                self.servers.own_writes().wrote(&items[index].key, &items[index].value);
                pipeline.add_command(set(&items[index]));
            },
            decode: |index: usize, values: &mut dyn Iterator<Item = Value>| {
                if is_removal(&items[index].options) {
                    return next(operation, values, reply::flag).map(|there| removal(items[index].options, there));
                }
                next(operation, values, reply::outcome)
            },
        };
        self.run(batch, answers).await
    }

    /// UNLINK, so that the server frees large values aside.
    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.servers.own_writes().gone(keys);
        self.flags("delete_many", Effect::Change, keys, 1, |key, pipeline| {
            pipeline.cmd("UNLINK").arg(key);
        })
        .await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        let operation = "ttl_many";
        let batch = Batch {
            operation,
            effect: Effect::Read,
            replica: false,
            keys: &keys.iter().collect::<Vec<_>>(),
            payload: &|_| 0,
            width: 1,
            encode: |index: usize, pipeline: &mut Pipeline| {
                pipeline.cmd("PTTL").arg(keys[index].as_str());
            },
            decode: |_, values: &mut dyn Iterator<Item = Value>| next(operation, values, reply::remaining),
        };
        self.run(batch, Answers::new(keys.len())).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        let operation = "expire_many";
        let lasting = match expiry {
            Expiry::After(duration) => ttl_millis(duration).map_or(Lasting::Forever, Lasting::For),
            Expiry::At(time) => i64::try_from(time.0).map_or(Lasting::Forever, Lasting::Until),
            Expiry::Never => Lasting::Forever,
            _ => return keys.iter().map(|key| Err(unknown(operation, "expiry").with_key(key))).collect(),
        };
        match lasting {
            Lasting::For(0) => {
                self.flags(operation, Effect::Change, keys, 1, |key, pipeline| {
                    pipeline.cmd("UNLINK").arg(key);
                })
                .await
            }
            Lasting::For(millis) => {
                self.flags(operation, Effect::Change, keys, 1, |key, pipeline| {
                    pipeline.cmd("PEXPIRE").arg(key).arg(millis);
                })
                .await
            }
            Lasting::Until(time) => {
                self.flags(operation, Effect::Change, keys, 1, |key, pipeline| {
                    pipeline.cmd("PEXPIREAT").arg(key).arg(time);
                })
                .await
            }
            // PERSIST answers 0 for a key that lasts already as for one that is absent.
            Lasting::Forever => {
                self.flags(operation, Effect::Change, keys, 2, |key, pipeline| {
                    pipeline.cmd("PERSIST").arg(key).cmd("EXISTS").arg(key);
                })
                .await
            }
        }
    }

    /// In a cluster every primary has to answer.
    async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let primaries = self.servers.primaries().await?;
        let answers = primaries.iter().map(|node| node.ask("ping", Request::Command(&ping)));
        for answer in join_all(answers).await {
            reply::checked("ping", answer?)?;
        }
        Ok(())
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        Some(self)
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        Some(self)
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        Some(self)
    }

    fn as_tracking(&self) -> Option<&dyn Tracking> {
        Some(self)
    }

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }
}

/// How long a key is to last from now on, as the server takes it.
enum Lasting {
    For(u64),
    Until(i64),
    Forever,
}

impl RedisBackend {
    /// A batch whose last command for each key says whether the key was there.
    async fn flags(
        &self,
        operation: &'static str,
        effect: Effect,
        keys: &[Key],
        width: usize,
        encode: impl Fn(&str, &mut Pipeline) + Sync,
    ) -> Each<bool> {
        let batch = Batch {
            operation,
            effect,
            replica: false,
            keys: &keys.iter().collect::<Vec<_>>(),
            payload: &|_| 0,
            width,
            encode: |index: usize, pipeline: &mut Pipeline| encode(keys[index].as_str(), pipeline),
            decode: |_, values: &mut dyn Iterator<Item = Value>| {
                let mut answers = (0..width).map(|_| next(operation, values, reply::flag)).collect::<Vec<_>>();
                let last = answers.pop();
                answers.into_iter().collect::<Result<Vec<_>>>()?;
                last.unwrap_or_else(|| Err(error::unexpected(operation, "an answer")))
            },
        };
        self.run(batch, Answers::new(keys.len())).await
    }
}

/// How long a written value lives, as options of SET.
pub(crate) enum Life {
    Forever,
    Millis(u64),
    Keep,
    Removed,
}

pub(crate) fn life_of(operation: &'static str, ttl: Ttl) -> Result<Life> {
    match ttl {
        Ttl::Forever => Ok(Life::Forever),
        Ttl::Keep => Ok(Life::Keep),
        Ttl::For(duration) => Ok(match ttl_millis(duration) {
            None => Life::Forever,
            Some(0) => Life::Removed,
            Some(millis) => Life::Millis(millis),
        }),
        _ => Err(unknown(operation, "ttl")),
    }
}

fn life(item: &SetItem) -> Result<Life> {
    life_of("set_many", item.options.ttl)
}

fn check_options(item: &SetItem) -> Result<()> {
    match item.options.condition {
        Condition::Always | Condition::IfAbsent | Condition::IfPresent => life(item).map(drop),
        _ => Err(unknown("set_many", "condition")),
    }
}

fn is_removal(options: &SetOptions) -> bool {
    matches!(options.ttl, Ttl::For(duration) if duration.is_zero())
}

fn set(item: &SetItem) -> Cmd {
    let key = item.key.as_str();
    if is_removal(&item.options) {
        // To remove a key only if it is absent changes nothing, but the answer wants to know.
        let mut command = redis::cmd(if item.options.condition == Condition::IfAbsent { "EXISTS" } else { "UNLINK" });
        command.arg(key);
        return command;
    }
    let mut command = Cmd::with_capacity(6, key.len() + item.value.len() + 32);
    command.arg("SET").arg(key).arg(&item.value[..]);
    match item.options.condition {
        Condition::IfAbsent => {
            command.arg("NX");
        }
        Condition::IfPresent => {
            command.arg("XX");
        }
        _ => {}
    }
    match life(item) {
        Ok(Life::Millis(millis)) => {
            command.arg("PX").arg(millis);
        }
        Ok(Life::Keep) => {
            command.arg("KEEPTTL");
        }
        _ => {}
    }
    command
}

fn removal(options: SetOptions, was_there: bool) -> SetOutcome {
    let held = match options.condition {
        Condition::IfAbsent => !was_there,
        Condition::IfPresent => was_there,
        _ => true,
    };
    if held { SetOutcome::Stored } else { SetOutcome::Rejected }
}

/// An option of a newer core than this backend was written for.
pub(crate) fn unknown(operation: &'static str, field: &'static str) -> Error {
    let message = format!("`{field}` has a form that the Redis backend does not know");
    Error::new(ErrorKind::Unsupported, operation, message)
}
