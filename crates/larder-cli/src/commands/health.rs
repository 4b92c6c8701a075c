//! `larder health`.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Result;
use larder_core::{Backend, BackendExt, Bytes, Error, ErrorKind, Key, SetOptions};
use serde_json::{Value, json};

use crate::{
    options::HealthOptions,
    report::{Report, table},
    session::Session,
};

/// How long the value of a check that was broken off stays.
const PROBE_TTL: Duration = Duration::from_secs(10);

/// One thing that was tried.
#[derive(Debug)]
struct Check {
    name: &'static str,
    took: Duration,
    error: Option<Error>,
}

pub(super) async fn run(session: &Session, options: &HealthOptions) -> Result<Report> {
    let checks = if options.ping_only { vec![ping(session).await] } else { probe(session).await };
    let failed = checks.iter().find_map(|check| check.error.as_ref().map(|error| (check.name, error)));
    let healthy = failed.is_none();
    let document = json!({
        "healthy": healthy,
        "namespace": session.names.namespace,
        "checks": checks.iter().map(document).collect::<Vec<Value>>(),
    });
    let rows = checks.iter().map(|check| {
        let outcome = if check.error.is_none() { "ok" } else { "failed" };
        [check.name.to_owned(), outcome.to_owned(), format!("{:.1?}", check.took)]
    });
    let text =
        format!("{}\n{}", table(["check", "outcome", "took"], rows), if healthy { "healthy" } else { "unhealthy" });
    let failure = failed.map(|(name, error)| format!("{name}: {}", session.failed(error)));
    Ok(Report::new(text, document).failing(failure))
}

/// Connecting, and an answer.
async fn ping(session: &Session) -> Check {
    timed("ping", session.redis.ping()).await.0
}

/// A value is written, read, compared and deleted; stops at the first failure.
async fn probe(session: &Session) -> Vec<Check> {
    let mut checks = vec![ping(session).await];
    if checks[0].error.is_some() {
        return checks;
    }
    let redis = &session.redis;
    let key = Key::from_canonical(format!("{}%probe:{:016x}", session.names.prefix, fastrand::u64(..)));
    let value = Bytes::from(format!("{:032x}", fastrand::u128(..)));

    let (check, written) = timed("set", redis.set(&key, value.clone(), SetOptions::new().ttl(PROBE_TTL))).await;
    checks.push(check);
    if written.is_none() {
        return checks;
    }
    let (mut check, found) = timed("get", redis.get(&key)).await;
    if found.is_some_and(|found| found.as_ref() != Some(&value)) {
        let message = "a value was read back as another one than was written";
        check.error = Some(Error::new(ErrorKind::Protocol, "get", message));
    }
    checks.push(check);
    let (mut check, deleted) = timed("delete", redis.delete(&key)).await;
    if deleted == Some(false) {
        let message = "the value had gone before it was deleted; is the server short of memory?";
        check.error = Some(Error::new(ErrorKind::Protocol, "delete", message));
    }
    checks.push(check);
    checks
}

async fn timed<T>(name: &'static str, call: impl Future<Output = larder_core::Result<T>>) -> (Check, Option<T>) {
    let began = Instant::now();
    let answer = call.await;
    let took = began.elapsed();
    match answer {
        Ok(answer) => (Check { name, took, error: None }, Some(answer)),
        Err(error) => (Check { name, took, error: Some(error) }, None),
    }
}

fn document(check: &Check) -> Value {
    json!({
        "check": check.name,
        "ok": check.error.is_none(),
        "ms": check.took.as_secs_f64() * 1_000.0,
        "error": check.error.as_ref().map(ToString::to_string),
    })
}
