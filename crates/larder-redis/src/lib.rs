//! Larder's remote tier in Redis or Valkey (7.0 or later): one server, the primary of a service that sentinels watch, or a
//! cluster; over TCP, TLS (feature `tls`) or a unix socket.
//!
//! [`RedisBackend`] implements [`Backend`](larder_core::Backend) and all of its optional powers: scans, comparisons,
//! counters, locks, the bus, the lineage of the servers, tracking of changes, and figures about the server. No type of the Redis client library is part of this interface.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use larder_core::{BackendExt, Key, SetOptions};
//! use larder_redis::{RedisBackend, RedisConfig};
//!
//! # async fn example() -> larder_core::Result<()> {
//! let config = RedisConfig::builder().url("redis://127.0.0.1:6379/2").command_deadline(Duration::from_millis(200)).build()?;
//! let redis = RedisBackend::connect(config).await?;
//!
//! let key = Key::new("ticker:BTCUSDT");
//! redis.set(&key, "64000".into(), SetOptions::new().ttl(Duration::from_secs(30))).await?;
//! assert_eq!(redis.get(&key).await?.as_deref(), Some(&b"64000"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # Topologies
//! The URL names one: `redis://`, `redis-sentinel://host,host/0#service`, `redis-cluster://host,host`, each with `rediss`
//! for TLS ([`RedisConfigBuilder::url`]). Behind sentinels the primary is asked for with each new connection, and all
//! connections are given up when the sentinels announce another one. In a cluster each key's commands go to the owner of
//! its slot; what a node refuses because the slot has moved, or is moving, is sent on. Batches are spread over the nodes,
//! scans go through all primaries. Reads may go to replicas where the caller says so
//! ([`GetOptions::prefer_replica`](larder_core::GetOptions::prefer_replica)).
//!
//! # Sockets
//! A backend has a few sockets to each server ([`RedisConfigBuilder::sockets`]), each shared by any number of callers: their
//! commands are pipelined, so that a call costs a share of one system call instead of a socket. A key always uses the same
//! socket (chosen by its hash), so that the server carries out the writes and removals of one key in the order in which they
//! were sent, also where a caller stopped waiting in between. Reads of several keys go out together on one of them.
//!
//! Reads of single keys that callers make at about the same time leave as one pipeline of GETs, each with an answer and an
//! error of its own; a caller that is alone waits for nobody. Such a read may leave a little later than a write that
//! another task sends after it, and then sees that write. What was acknowledged before the read began, it always sees.
//!
//! Each socket stands under a bb8 pool of its own, which opens and replaces it; the pool is asked only when there is no
//! usable socket, or when it was idle and has to prove itself, and not by each command. Once a second idle sockets are
//! closed and missing ones opened ([`RedisConfigBuilder::min_sockets`], [`RedisConfigBuilder::idle_timeout`]); one that has
//! lived for [`RedisConfigBuilder::max_lifetime`] is replaced while it goes on serving. [`RedisBackend::state`] tells.
//!
//! # What it guarantees
//! - **A server need not be there.** [`RedisBackend::new`] does not connect. A call without a server fails with
//!   [`Unavailable`](larder_core::ErrorKind::Unavailable) within the connect deadline, at once while a new attempt is
//!   not due (attempts are 50 ms to 2 s apart, jittered). The first call after that connects.
//! - **Nothing hangs.** A call takes at most the connect deadline (1 s), if it has to connect, and the command deadline
//!   (500 ms) for each round trip. Once one round trip of a batch failed for the connection's sake, the rest is not tried.
//! - **Nothing is written twice.** Commands that change something are sent once; after a time-out or a broken connection
//!   it is unknown whether they took place. Reads are repeated once if the socket turns out to have been closed.
//! - **Nothing comes late.** A socket on which a value was sent and not answered is given up, and ended by the server
//!   before the next one is used, so that the value does not come after a later removal of its key. Other callers' reads
//!   on it are repeated; the outcome of their writes is unknown.
//! - **Nothing is read from another server unnoticed**, where a namespace is guarded
//!   ([`Lineage::guard`](larder_core::Lineage::guard)): a restart or a failover removes the namespace's generation first.
//! - **A dead link is replaced.** A socket is given up when it breaks, when it answers `READONLY`, when it stayed silent
//!   for the command deadline while three calls in a row gave up on it, or when a PING after idleness is not answered.
//!   Keepalive and the TCP user time-out make the kernel notice within some ten seconds what no call notices.
//! - **Bounded.** Calls beyond [`RedisConfigBuilder::max_in_flight`] fail with
//!   [`Overloaded`](larder_core::ErrorKind::Overloaded), values above [`RedisConfigBuilder::max_value_bytes`] with
//!   [`TooLarge`](larder_core::ErrorKind::TooLarge), both before anything is sent. Batches go out in chunks.
//!
//! # What a dropped future means
//! The connection stays usable, and callers whose reads left together with one that was dropped get their answers. A read
//! is forgotten. A write, a removal, an increment or a lock may or may not have taken
//! place: what was handed to the socket is carried out by the server even if nobody waits for the answer.
//!
//! # What it costs
//! One round trip for each chunk of a batch ([`RedisConfigBuilder::batch_keys`], [`RedisConfigBuilder::batch_bytes`]):
//! MGET without TTLs, a pipeline of GET and PTTL with them, a pipeline for everything else. Comparisons and locks are
//! scripts, called by their digest, which cost the server about four times a GET.

mod atomic;
mod backend;
mod batch;
mod bus;
mod combine;
mod config;
mod counter;
mod dial;
mod error;
mod inspect;
mod introduction;
mod lineage;
mod link;
mod lock;
mod login;
mod manager;
mod node;
mod own_writes;
mod removal;
mod reply;
mod scan;
mod script;
mod server_clock;
mod slot;
mod socket;
mod state;
mod tls;
mod topology;
mod tracking;
mod vetting;

pub use backend::RedisBackend;
pub use config::{RedisConfig, RedisConfigBuilder};
pub use login::{Credentials, CredentialsProvider};
pub use state::{NodeState, RedisState};
pub use tls::TlsConfig;
