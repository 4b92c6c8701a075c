//! How often Redis is asked before a caller is answered, and afterwards: counted between client and server.

use std::{
    collections::HashMap,
    future::IntoFuture,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures_util::future::join_all;
use larder::{Cache, ErrorKind, ManualClock, Source};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, RedisServer};
use tokio::sync::Semaphore;

use crate::{PATIENT, cache_at, hears_the_bus, until};

/// Commands of the read path, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Commands {
    get: u64,
    mget: u64,
    set: u64,
    scripts: u64,
}

struct Counted {
    server: RedisServer,
    proxy: FaultProxy,
    cache: Cache,
}

impl Counted {
    /// A cache behind a counting proxy that has made its connections, its marker and its scripts, on a server that holds
    /// the numbers from 0 to 9.
    async fn start() -> Self {
        let server = RedisServer::start();
        let writer = cache_at(&server.url()).await;
        assert_eq!(writer.set_many((0..10_u32).map(|key| (key, key)), None).await, 10);
        let proxy =
            FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await.expect("a free port");
        let backend = RedisBackend::new(RedisConfig::from_url(format!("redis://{}", proxy.address())).expect("a URL"));
        // A clock that stands still: statistics are not published in between, and no near copy ends.
        let builder = Cache::builder().namespace("t").strategy(PATIENT).timer(Arc::new(ManualClock::new()));
        let builder = builder.backend(Arc::new(backend.expect("the settings are valid")));
        let cache = builder.build().await.expect("the settings are valid");
        hears_the_bus(&cache).await;
        let counted = Self { server, proxy, cache };
        // Several, so that every socket is open.
        for warming in 0..64_u32 {
            counted.load(&format!("warming:{warming}"), warming, None).await;
        }
        for warming in 0..64_u32 {
            until("the warming is stored", || async { writer.exists(format!("warming:{warming}")).await }).await;
        }
        counted
    }

    fn commands(&self) -> Commands {
        Commands {
            get: self.proxy.commands_named("GET"),
            mget: self.proxy.commands_named("MGET"),
            set: self.proxy.commands_named("SET"),
            scripts: self.proxy.commands_named("EVALSHA") + self.proxy.commands_named("EVAL"),
        }
    }

    /// What was asked since these.
    fn since(&self, before: &Commands) -> Commands {
        let now = self.commands();
        Commands {
            get: now.get - before.get,
            mget: now.mget - before.mget,
            set: now.set - before.set,
            scripts: now.scripts - before.scripts,
        }
    }

    /// Loads a value once the gate opens.
    async fn load(&self, key: &str, value: u32, gate: Option<Arc<Semaphore>>) -> Source {
        self.load_tagged(key, value, gate, &[]).await
    }

    async fn load_tagged(&self, key: &str, value: u32, gate: Option<Arc<Semaphore>>, tags: &[&str]) -> Source {
        let loader = move || async move {
            if let Some(gate) = gate {
                gate.acquire().await.expect("nobody closes the gate").forget();
            }
            Ok::<_, std::io::Error>(value)
        };
        let load = tags.iter().fold(self.cache.get_or_load(key, loader), |load, tag| load.tag(*tag));
        load.outcome().await.expect("the loader has a value").source
    }
}

#[tokio::test]
async fn a_remote_hit_costs_one_command_and_a_near_hit_none() {
    let counted = Counted::start().await;
    let before = counted.commands();
    assert_eq!(counted.load("7", 2, None).await, Source::Remote);
    assert_eq!(counted.since(&before), Commands { get: 1, ..Commands::default() });
    assert_eq!(counted.load("7", 2, None).await, Source::Near);
    assert_eq!(counted.since(&before), Commands { get: 1, ..Commands::default() });
}

#[tokio::test]
async fn reads_that_come_while_one_is_on_its_way_are_one_command_and_each_gets_its_own_value() {
    let counted = Counted::start().await;
    let before = counted.commands();
    // All are polled before any task of this runtime gets a turn.
    let reads = (0..10_u32).map(|key| counted.cache.get::<_, u32>(key).into_future());
    let values = join_all(reads).await;
    assert!(values.iter().enumerate().all(|(key, value)| value.as_deref().copied() == u32::try_from(key).ok()));
    assert_eq!(counted.since(&before), Commands { get: 1, mget: 1, ..Commands::default() });
    for key in 0..10_u32 {
        assert_eq!(counted.load(&key.to_string(), 99, None).await, Source::Near, "each was promoted");
    }
}

#[tokio::test]
async fn a_key_of_another_kind_is_told_to_who_asks_for_faults_however_many_read() {
    let counted = Counted::start().await;
    counted.server.command(&["RPUSH", "t:list", "an item"]);
    let reads = join_all((0..9_u32).map(|key| counted.cache.get::<_, u32>(key).into_future()));
    let told = counted.cache.try_get::<_, u32>("list").into_future();
    let hidden = counted.cache.get::<_, u32>("list").into_future();
    let (values, told, hidden) = tokio::join!(reads, told, hidden);
    assert!(values.iter().all(Option::is_some));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::KindMismatch);
    assert_eq!(hidden, None);
}

#[tokio::test]
async fn a_miss_costs_two_round_trips_and_its_commit_one_more() {
    let counted = Counted::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let before = counted.commands();
    let load = counted.load("k", 1, Some(Arc::clone(&gate)));
    let opening = async {
        // Everything that comes before the load: a read, and then at the same time token and markers.
        until("the loader runs", || async { counted.since(&before).set == 1 }).await;
        assert_eq!(counted.since(&before).scripts, 0);
        gate.add_permits(1);
    };
    let (source, ()) = tokio::join!(load, opening);
    assert_eq!(source, Source::Loaded);
    until("the value is stored", || async { counted.since(&before).scripts == 1 }).await;
    // The versions of region, namespace and tags are known.
    assert_eq!(counted.since(&before), Commands { get: 1, mget: 0, set: 1, scripts: 1 });
}

#[tokio::test]
async fn a_batch_reads_with_one_command_and_loads_with_one_call() {
    let counted = Counted::start().await;
    let before = counted.commands();
    let load = |missing: Vec<u32>| async {
        assert_eq!(missing.len(), 10);
        Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
    };
    let answers = counted.cache.get_or_load_many(0..20_u32, load).await;
    assert!(answers.into_iter().enumerate().all(|(key, answer)| *answer.unwrap().unwrap() as usize == key));
    until("the values are stored", || async { counted.since(&before).scripts == 10 }).await;
    assert_eq!(counted.since(&before), Commands { get: 0, mget: 1, set: 10, scripts: 10 });
}

#[tokio::test]
async fn a_remote_hit_with_three_tags_costs_one_command_once_their_versions_are_known() {
    let counted = Counted::start().await;
    let tags = ["a", "b", "c"];
    let writer = cache_at(&counted.server.url()).await;
    for key in ["tagged:1", "tagged:2", "tagged:3"] {
        assert!(writer.set(key, 1_u32).tag("a").tag("b").tag("c").await);
    }
    // Nobody has told this process the versions of these tags: they come with the value.
    let before = counted.commands();
    assert_eq!(counted.load_tagged("tagged:1", 2, None, &tags).await, Source::Remote);
    assert_eq!(counted.since(&before), Commands { mget: 1, ..Commands::default() });
    let before = counted.commands();
    assert_eq!(counted.load_tagged("tagged:2", 2, None, &tags).await, Source::Remote);
    // A call that names no tag.
    assert_eq!(counted.cache.get::<_, u32>("tagged:3").await.as_deref(), Some(&1));
    assert_eq!(counted.since(&before), Commands { get: 2, ..Commands::default() });
}

#[tokio::test]
async fn an_invalidation_of_a_tag_a_region_or_the_namespace_lists_nothing_and_removes_a_marker_or_two() {
    let counted = Counted::start().await;
    let (scans, removals) = (|| counted.proxy.commands_named("SCAN"), || counted.proxy.commands_named("UNLINK"));
    let before = (scans(), removals());
    counted.cache.invalidate().tag("a").await.expect("Redis is there");
    counted.cache.prefix("warming").clear().await.expect("Redis is there");
    counted.cache.clear().await.expect("Redis is there");
    counted.cache.invalidate().key("7").await.expect("Redis is there");
    assert_eq!(scans(), before.0);
    // A tag's two markers may lie on two sockets.
    assert!((4..=5).contains(&(removals() - before.1)));
}
