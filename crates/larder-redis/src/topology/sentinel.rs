//! Sentinels: who is the primary, and when that changes.
//!
//! Protocol: `SENTINEL GET-MASTER-ADDR-BY-NAME`, `SENTINEL REPLICAS`, and the channel `+switch-master`, as Redis's
//! "Guidelines for Redis clients with support for Redis Sentinel" describe them.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use larder_core::{Error, ErrorKind};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Cmd, Value};
use tokio::time::{sleep, timeout};

use crate::{
    RedisConfig,
    config::Address,
    dial::dial_sentinel,
    error,
    manager::{ConnectError, ask},
};

/// The channel on which a sentinel says that a service has another primary.
const SWITCHED: &str = "+switch-master";

/// How often the link to a sentinel has to give a sign of life. The primary is asked for at the same time, in case that
/// the message was lost.
const PULSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Sentinels {
    service: String,
    addresses: Vec<Address>,
    /// The primary that was named last.
    known: Mutex<Option<Address>>,
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<Address>, service: String) -> Self {
        Self { service, addresses, known: Mutex::new(None) }
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// The primary that the first sentinel to answer names.
    pub(super) async fn primary(&self, config: &RedisConfig) -> Result<Address, ConnectError> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let primary = self.first_answer(config, &command, |value| pair(&value)).await?;
        *self.known.lock() = Some(primary.clone());
        Ok(primary)
    }

    /// A replica that is in order, any of them.
    pub(super) async fn replica(&self, config: &RedisConfig) -> Result<Address, ConnectError> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("REPLICAS").arg(&self.service);
        let replicas = self.first_answer(config, &command, |value| Some(healthy_replicas(value))).await?;
        let chosen = fastrand::choice(replicas);
        let message = || format!("the service {:?} has no replica that is in order", self.service);
        chosen.ok_or_else(|| Error::new(ErrorKind::Unavailable, "connect", message()).into())
    }

    /// Asks all sentinels at once, and takes the first answer that says something: any of them may be away.
    async fn first_answer<T>(
        &self,
        config: &RedisConfig,
        command: &Cmd,
        read: impl Fn(Value) -> Option<T>,
    ) -> Result<T, ConnectError> {
        let mut answers: FuturesUnordered<_> =
            self.addresses.iter().map(|address| asked(config, address, command)).collect();
        let mut last = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Value::Nil) => {
                    let message = format!("the sentinels watch no service {:?}; correct its name", self.service);
                    last.get_or_insert(Error::new(ErrorKind::Config, "connect", message).into());
                }
                Ok(value) => match read(value) {
                    Some(answer) => return Ok(answer),
                    None => last = Some(error::unexpected("connect", "one of a sentinel").into()),
                },
                Err(error) => last = Some(of_sentinel(&error)),
            }
        }
        Err(last.unwrap_or_else(|| Error::config("sentinels", "the list is empty").into()))
    }

    /// Listens to a sentinel until its link is lost, and calls `switched` whenever there is another primary.
    pub(super) async fn watch(&self, config: &RedisConfig, switched: impl Fn()) {
        let order = fastrand::choose_multiple(0..self.addresses.len(), self.addresses.len());
        for index in order {
            let opening = async {
                let client = dial_sentinel(config, &self.addresses[index])?;
                let (mut sink, messages) = client.get_async_pubsub().await?.split();
                sink.subscribe(SWITCHED).await?;
                Ok::<_, ConnectError>((sink, messages))
            };
            let Ok(Ok((mut sink, mut messages))) = timeout(config.connect_deadline, opening).await else { continue };
            let listen = async {
                while let Some(message) = messages.next().await {
                    let payload = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
                    if payload.split(' ').next() == Some(self.service.as_str()) {
                        switched();
                    }
                }
            };
            let pulse = async {
                loop {
                    sleep(PULSE).await;
                    if !matches!(timeout(config.connect_deadline, sink.ping::<Value>()).await, Ok(Ok(_))) {
                        return;
                    }
                    let before = self.known.lock().clone();
                    let now = self.primary(config).await.ok();
                    if before.is_some() && now.is_some() && now != before {
                        switched();
                    }
                }
            };
            tokio::select! {
                () = listen => {}
                () = pulse => {}
            }
            return;
        }
    }
}

async fn asked(config: &RedisConfig, address: &Address, command: &Cmd) -> Result<Value, ConnectError> {
    let answering = async {
        let client = dial_sentinel(config, address)?;
        let settings = AsyncConnectionConfig::new().set_connection_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
        Ok::<_, ConnectError>(ask(&mut connection, command).await?)
    };
    let late = || Err(Error::new(ErrorKind::Unavailable, "connect", "a sentinel did not answer in time").into());
    timeout(config.connect_deadline, answering).await.unwrap_or_else(|_| late())
}

/// Says that it was a sentinel, not the server, that refused.
fn of_sentinel(refused: &ConnectError) -> ConnectError {
    let error = error::from_connect("connect", refused);
    let message = match error.kind() {
        ErrorKind::Auth => {
            "a sentinel refused the login, or wants one; set `sentinel_user` and `sentinel_password`".to_owned()
        }
        _ => format!("no sentinel names a primary: {}", error.message()),
    };
    Error::new(error.kind(), "connect", message).with_source(error).into()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Host and port.
fn pair(value: &Value) -> Option<Address> {
    let Value::Array(parts) = value else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some(Address::tcp(text(host)?, text(port)?.parse().ok()?))
}

/// Each replica is a list of names and values (a map in RESP3).
fn healthy_replicas(value: Value) -> Vec<Address> {
    let Value::Array(replicas) = value else { return Vec::new() };
    replicas.iter().filter_map(healthy_replica).collect()
}

fn healthy_replica(replica: &Value) -> Option<Address> {
    let field = |name: &str| match replica {
        Value::Array(parts) => {
            parts.chunks_exact(2).find(|pair| text(&pair[0]).as_deref() == Some(name)).and_then(|pair| text(&pair[1]))
        }
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).and_then(|it| text(&it.1))
        }
        _ => None,
    };
    let flags = field("flags")?;
    let is_down = flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"));
    let is_linked = field("master-link-status").is_none_or(|status| status == "ok");
    (!is_down && is_linked).then(|| Some(Address::tcp(field("ip")?, field("port")?.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn replica(fields: &[(&str, &str)]) -> Value {
        Value::Array(fields.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect())
    }

    #[test]
    fn a_replica_that_is_down_or_has_lost_its_primary_is_not_chosen() {
        let at =
            |port, flags, link| replica(&[("ip", "h"), ("port", port), ("flags", flags), ("master-link-status", link)]);
        let replicas = Value::Array(vec![
            at("1", "slave", "ok"),
            at("2", "s_down,slave", "ok"),
            at("3", "slave,disconnected", "ok"),
            at("4", "slave", "err"),
            replica(&[("ip", "h")]),
        ]);
        assert_eq!(healthy_replicas(replicas), [Address::tcp("h", 1)]);
    }

    #[test]
    fn a_primary_is_a_host_and_a_port() {
        assert_eq!(pair(&Value::Array(vec![bulk("h"), bulk("7")])), Some(Address::tcp("h", 7)));
        assert_eq!(pair(&Value::Array(vec![bulk("h"), bulk("x")])), None);
        assert_eq!(pair(&Value::Nil), None);
    }
}
