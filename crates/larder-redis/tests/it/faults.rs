//! Every fault of the network against every kind of call: the error's kind, that it comes in time, that no answer is taken
//! for another call's, and that the backend is used again afterwards.

use std::time::Duration;

use larder_core::{
    Atomic, Backend, BackendExt, Counter, Each, Error, ErrorKind, Expected, GetOptions, Key, Result, SetItem,
};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::server::{key, plain, until, within};

const CONNECT: Duration = Duration::from_millis(300);
const COMMAND: Duration = Duration::from_millis(200);

/// No call may take longer than this: it connects at most twice and has two round trips, but the machine is shared.
const FAR_BEYOND_THE_DEADLINES: Duration = Duration::from_secs(6);

/// Reads, writes, removals and batches of each.
const CALLS: [&str; 10] = [
    "get",
    "get_many",
    "get_many with TTLs",
    "ttl_many",
    "set",
    "set_many",
    "delete_many",
    "increment",
    "increment with a TTL",
    "compare_and_set",
];

/// A backend that reaches its server through the proxy.
struct Rig {
    server: RedisServer,
    proxy: FaultProxy,
    backend: RedisBackend,
    read: [Key; 3],
}

impl Rig {
    async fn start() -> Self {
        let server = RedisServer::start();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let config =
            RedisConfig::builder().port(proxy.port()).sockets(1).connect_deadline(CONNECT).command_deadline(COMMAND);
        let backend = RedisBackend::new(config.build().unwrap()).unwrap();
        let read = ["a", "b", "c"].map(key);
        for key in &read {
            server.command(&["SET", key.as_str(), key.as_str()]);
        }
        Self { server, proxy, backend, read }
    }

    async fn call(&self, call: &str) -> Each<()> {
        let (backend, read) = (&self.backend, &self.read);
        let written = ["x", "y", "z"].map(key);
        let items = written.clone().map(|key| SetItem::new(key, "1", plain()));
        let each = |results: Each<bool>| results.into_iter().map(|result| result.map(drop)).collect();
        match call {
            "get" => vec![backend.get(&read[0]).await.map(drop)],
            "get_many" => forget(backend.get_many(read, GetOptions::new()).await),
            "get_many with TTLs" => forget(backend.get_many(read, GetOptions::new().with_ttl()).await),
            "ttl_many" => forget(backend.ttl_many(read).await),
            "set" => vec![backend.set(&written[0], "1".into(), plain()).await.map(drop)],
            "set_many" => forget(backend.set_many(&items).await),
            "delete_many" => each(backend.delete_many(&written).await),
            "increment" => vec![backend.increment(&key("n"), 1, None).await.map(drop)],
            "increment with a TTL" => {
                vec![backend.increment(&key("m"), 1, Some(Duration::from_secs(60))).await.map(drop)]
            }
            "compare_and_set" => {
                let expected = Expected::exactly("1");
                vec![backend.compare_and_set(&written[0], &expected, "1".into(), plain()).await.map(drop)]
            }
            _ => unreachable!("{call} is not one of CALLS"),
        }
    }

    /// The backend answers, and each read with its own key's value.
    async fn recovers(&self, after: &str) {
        until(async || self.backend.get(&self.read[0]).await, Result::is_ok).await.unwrap();
        for _ in 0..3 {
            for (key, found) in
                self.read.iter().zip(self.backend.get_many(&self.read, GetOptions::new().with_ttl()).await)
            {
                let found = found.unwrap_or_else(|error| panic!("after {after}: {error}"));
                assert_eq!(found.unwrap().value, key.as_str(), "after {after}");
            }
        }
        assert_eq!(self.backend.state().in_flight, 0, "after {after}");
    }

    /// Each call fails in this mode, in time, with errors of these kinds that name their keys, and succeeds after it.
    async fn suffers(&self, mode: ProxyMode, kinds: &[ErrorKind]) {
        for call in CALLS {
            self.recovers("the fault before").await;
            self.proxy.set(mode).await;
            let outcome = tokio::time::timeout(FAR_BEYOND_THE_DEADLINES, self.call(call)).await;
            self.proxy.set(ProxyMode::Pass).await;
            for answer in outcome.unwrap_or_else(|_| panic!("{call} hangs in {mode:?}")) {
                let error = answer.expect_err(&format!("{call} in {mode:?}"));
                check(&error, kinds, call);
            }
            self.recovers(call).await;
        }
    }
}

fn forget<T>(results: Each<T>) -> Each<()> {
    results.into_iter().map(|result| result.map(drop)).collect()
}

fn check(error: &Error, kinds: &[ErrorKind], call: &str) {
    assert!(kinds.contains(&error.kind()), "{call}: {error}");
    assert!(error.key().is_some(), "{call}: {error}");
    assert!(!error.message().is_empty(), "{call}: {error}");
    assert_eq!(error.is_transient(), error.kind() != ErrorKind::Protocol, "{call}: {error}");
}

#[tokio::test]
async fn a_link_that_swallows_everything_times_out() {
    let rig = Rig::start().await;
    rig.suffers(ProxyMode::Blackhole, &[ErrorKind::Timeout]).await;
}

#[tokio::test]
async fn a_link_that_stays_silent_is_replaced_while_it_is_still_silent() {
    let rig = Rig::start().await;
    rig.recovers("the start").await;
    rig.proxy.set(ProxyMode::Blackhole).await;
    let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
    for call in CALLS {
        let outcome = tokio::time::timeout(FAR_BEYOND_THE_DEADLINES, rig.call(call)).await;
        for answer in outcome.unwrap_or_else(|_| panic!("{call} hangs")) {
            check(&answer.unwrap_err(), &kinds, call);
        }
    }
    let opened = rig.backend.state().opened();
    rig.proxy.set(ProxyMode::Pass).await;
    rig.recovers("the silence").await;
    assert!(rig.backend.state().opened() > opened, "the old connection may not be trusted any more");
    assert!(rig.backend.state().nodes[0].broken >= 1);
}

#[tokio::test]
async fn a_reset_link_is_unavailable_and_opened_again() {
    let rig = Rig::start().await;
    rig.suffers(ProxyMode::Reset, &[ErrorKind::Unavailable]).await;
    assert!(rig.backend.state().opened() > CALLS.len() as u64);
}

#[tokio::test]
async fn a_refused_link_is_unavailable_and_opened_again() {
    let rig = Rig::start().await;
    rig.suffers(ProxyMode::Refuse, &[ErrorKind::Unavailable]).await;
    assert!(rig.backend.state().opened() > CALLS.len() as u64);
    assert!(rig.backend.state().nodes[0].failed >= 1);
}

#[tokio::test]
async fn a_half_closed_link_is_unavailable_and_opened_again() {
    let rig = Rig::start().await;
    rig.suffers(ProxyMode::HalfClose, &[ErrorKind::Unavailable]).await;
    assert!(rig.backend.state().opened() > CALLS.len() as u64);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_unavailable_wherever_it_is_cut() {
    for length in [0, 1, 3] {
        let rig = Rig::start().await;
        rig.suffers(ProxyMode::Truncate(length), &[ErrorKind::Unavailable]).await;
        assert!(rig.backend.state().opened() > CALLS.len() as u64);
    }
}

#[tokio::test]
async fn garbage_is_a_breach_of_the_protocol_and_no_later_answer_is_taken_for_another() {
    let rig = Rig::start().await;
    // Of several answers that belong together the library says no more than that the connection ended.
    rig.suffers(ProxyMode::Garbage, &[ErrorKind::Protocol, ErrorKind::Unavailable]).await;
    rig.proxy.set(ProxyMode::Garbage).await;
    let error = within(rig.backend.set(&key("x"), "1".into(), plain())).await.unwrap_err();
    check(&error, &[ErrorKind::Protocol], "set");
    assert!(rig.backend.state().opened() > CALLS.len() as u64);
}

#[tokio::test]
async fn a_delay_beyond_the_deadline_times_out_and_late_answers_are_taken_for_no_other_call() {
    let rig = Rig::start().await;
    rig.suffers(ProxyMode::Delay(COMMAND * 2), &[ErrorKind::Timeout]).await;
}

#[tokio::test]
async fn a_delay_within_the_deadline_costs_time_alone() {
    let rig = Rig::start().await;
    rig.recovers("the start").await;
    rig.proxy.set(ProxyMode::Delay(Duration::from_millis(5))).await;
    for call in CALLS {
        rig.call(call).await.into_iter().for_each(|answer| assert!(answer.is_ok(), "{call}: {answer:?}"));
    }
    assert_eq!(rig.backend.state().opened(), 1);
}

#[tokio::test]
async fn a_write_that_timed_out_may_have_happened_and_happens_once() {
    let rig = Rig::start().await;
    rig.recovers("the start").await;
    rig.proxy.set(ProxyMode::Delay(COMMAND * 2)).await;
    let error = within(rig.backend.increment(&key("n"), 1, None)).await.unwrap_err();
    assert!(error.message().contains("unknown"), "{error}");
    rig.proxy.set(ProxyMode::Pass).await;
    let counted = until(async || rig.backend.count(&key("n")).await, |count| matches!(count, Ok(Some(_)))).await;
    assert_eq!(counted.unwrap(), Some(1));
    assert_eq!(rig.server.command(&["GET", "n"]), "1");
}

#[tokio::test]
async fn a_batch_that_breaks_in_the_middle_answers_what_was_carried_out_and_fails_for_the_rest() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).batch_keys(1).command_deadline(COMMAND);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let keys: Vec<Key> = (0..2000).map(|index| key(&format!("k{index}"))).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    let break_it = async {
        while proxy.commands_named("set") < 5 {
            tokio::task::yield_now().await;
        }
        proxy.set(ProxyMode::Reset).await;
    };
    let (answers, ()) = within(async { tokio::join!(backend.set_many(&items), break_it) }).await;
    let stored = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!(stored > 0 && stored < keys.len(), "{stored}");
    for (answer, key) in answers.iter().zip(&keys).skip(stored) {
        let error = answer.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some(key)));
    }
    // What was answered is there; of what was not, at most the one that was on its way.
    let there: usize = server.command(&["DBSIZE"]).parse().unwrap();
    assert!(there == stored || there == stored + 1, "{there} of {stored}");
}
