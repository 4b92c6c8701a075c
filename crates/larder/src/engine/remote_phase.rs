//! What a leader does with the remote tier: read, wait for another process's load, place the fill token, promote, commit.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Expected, Result, Tag, Tick, envelope::Kind};
use larder_flight::Ticket;
use larder_memory::AnyValue;
use larder_strategy::{Lease, Plan};

use super::{
    Encoded, Engine, Landed, Life, LoadRequest, LoadedAny, Meta, NearLife, RegionState, Remote, Stored,
    remote::{Fill, RemoteEntry},
};
use crate::{
    outcome::{Outcome, Source},
    value::Absent,
};

/// How long a fill token lives unless its load renews it: a process that dies frees its keys within this time.
const TOKEN_LIFE: Duration = Duration::from_secs(3);

/// Entries of another process are only worth taking in an early refresh if they outlive one's own by this much.
const NEWER_BY: Duration = Duration::from_millis(20);

/// Where a read stands after the remote tier was asked.
#[derive(Debug)]
pub(crate) enum RemotePhase {
    /// A fresh entry: no load.
    Fresh(Box<RemoteEntry>),
    /// A stale one: answer with it, and load.
    Stale(Box<RemoteEntry>, Option<Fill>),
    /// Load; without a fill token nothing is stored in the remote tier.
    Load(Option<Fill>),
    /// The remote tier failed: load, and store near only.
    Fault,
}

impl LoadRequest {
    /// Asks the remote tier, within the strategy's deadline; the wait for another process has its own bound.
    pub(crate) async fn remote_phase(&self, refresh_of: Option<Tick>) -> RemotePhase {
        let Some(remote) = self.remote() else { return RemotePhase::Load(None) };
        let strategy = &self.region.strategy;
        let engine = &self.engine;
        let mut wait_until = None;
        loop {
            let step = self.remote_step(remote, refresh_of, wait_until.is_some());
            let phase = match engine.within(strategy.remote_deadline, step).await {
                Ok(phase) => phase,
                Err(error) => {
                    engine.remote_fault(&self.region, Some(&self.key), &error);
                    return RemotePhase::Fault;
                }
            };
            let token = match phase {
                Step::Done(phase) => return phase,
                Step::SomebodyLoads(token) => token,
            };
            let Lease::Wait { bound } = strategy.lease else { return self.share_token(remote, token).await };
            let now = engine.timer.now_precise();
            if now >= *wait_until.get_or_insert(now + bound) {
                return self.share_token(remote, token).await;
            }
            // First fills are not announced, so one polls; with jitter, so that losers do not poll in step.
            engine.timer.sleep(Duration::from_millis(fastrand::u64(5..=50))).await;
        }
    }

    async fn remote_step(&self, remote: &Remote, refresh_of: Option<Tick>, waited: bool) -> Result<Step> {
        let stored = remote.read(&self.key, &self.region, self.ops).await?;
        let known = match stored {
            Stored::Nothing => None,
            found => match self.consider(found, refresh_of, waited) {
                Considered::Done(phase) => return Ok(Step::Done(phase)),
                Considered::SomebodyLoads(token) => return Ok(Step::SomebodyLoads(token)),
                Considered::StaleEntry(entry) => {
                    let fill = remote.begin_fill(&self.key, Some(entry.token.clone()), &self.tags, TOKEN_LIFE).await?;
                    return Ok(Step::Done(RemotePhase::Stale(entry, fill.ok())));
                }
                Considered::Replace(token) => Some(token),
            },
        };
        match remote.begin_fill(&self.key, known, &self.tags, TOKEN_LIFE).await? {
            Ok(fill) => Ok(Step::Done(RemotePhase::Load(Some(fill)))),
            // Somebody was quicker between the read and the token.
            Err(bytes) => {
                let found = remote.judge(&self.key, bytes, &self.region, self.ops).await?;
                Ok(match self.consider(found, refresh_of, waited) {
                    Considered::Done(phase) => Step::Done(phase),
                    Considered::SomebodyLoads(token) => Step::SomebodyLoads(token),
                    Considered::StaleEntry(entry) => Step::Done(RemotePhase::Stale(entry, None)),
                    Considered::Replace(_) => Step::Done(RemotePhase::Load(None)),
                })
            }
        }
    }

    fn consider(&self, stored: Stored, refresh_of: Option<Tick>, waited: bool) -> Considered {
        let entry = match stored {
            Stored::Nothing | Stored::LeftAlone => return Considered::Done(RemotePhase::Load(None)),
            Stored::Dead(token) => return Considered::Replace(token),
            Stored::Loading(token) => return Considered::SomebodyLoads(token),
            Stored::Entry(entry) => entry,
        };
        if self.options.required && entry.value.is::<Absent>() {
            return Considered::Replace(entry.token);
        }
        // A forced refresh ignores what is stored, unless another process loaded it while this one waited.
        if self.options.force_refresh && !waited {
            return Considered::Replace(entry.token);
        }
        if entry.fresh_for.is_zero() {
            return match refresh_of {
                Some(_) => Considered::Replace(entry.token),
                None => Considered::StaleEntry(entry),
            };
        }
        let newer = |own: Tick| self.engine.timer.now() + entry.fresh_for > own + NEWER_BY;
        if refresh_of.is_none_or(newer) {
            Considered::Done(RemotePhase::Fresh(entry))
        } else {
            Considered::Replace(entry.token)
        }
    }

    /// Loads beside another process: the token is shared, and the first to commit wins.
    async fn share_token(&self, remote: &Remote, token: Expected) -> RemotePhase {
        let begin = remote.begin_fill(&self.key, Some(token), &self.tags, TOKEN_LIFE);
        match self.engine.within(self.region.strategy.remote_deadline, begin).await {
            Ok(fill) => RemotePhase::Load(fill.ok()),
            Err(error) => {
                self.engine.remote_fault(&self.region, Some(&self.key), &error);
                RemotePhase::Fault
            }
        }
    }

    /// Copies an entry of the remote tier into the near tier, if this call uses it; answers with it.
    pub(crate) fn promote(&self, ticket: &Ticket<Landed>, entry: &RemoteEntry, began: u64) -> Outcome<AnyValue> {
        if self.writes_near() && !self.another_type_stands_near() {
            return self.engine.promote(&self.region, ticket, entry, began, self.ops.size);
        }
        answer(entry)
    }

    /// The entry's bytes; a value that cannot be encoded is kept near only, and logged.
    pub(crate) fn encode(&self, value: &AnyValue) -> Option<Encoded> {
        let encoded = self.try_encode(value);
        encoded.inspect_err(|error| self.engine.remote_fault(&self.region, Some(&self.key), error)).ok()
    }

    fn try_encode(&self, value: &AnyValue) -> Result<Encoded> {
        if value.is::<Absent>() {
            let nothing = larder_codec::Payload::raw(Vec::new());
            return Ok(Encoded { kind: Kind::Negative, payload: nothing });
        }
        let serde = self.ops.serde.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "encode", format!("{} is kept near only", (self.ops.type_name)()))
        })?;
        let codec = self.options.codec.unwrap_or(self.region.codec);
        Ok(Encoded { kind: Kind::Value, payload: (serde.encode)(value, codec, self.region.compression)? })
    }

    /// Commits a loaded value to the remote tier; answers whether it was stored for certain.
    async fn commit_remote(&self, fill: &Fill, late: &[Tag], encoded: &Encoded, plan: &Plan, cost: Duration) -> bool {
        let Some(remote) = self.remote() else { return false };
        let life = Life { region: &self.region, plan, cost };
        let commit = remote.commit(&self.key, fill, late, encoded, life);
        match self.engine.within(commit_deadline(&self.region.strategy), commit).await {
            Ok(true) => return true,
            Ok(false) => crate::events::fill_lost(&self.key),
            Err(error) => self.engine.remote_fault(&self.region, Some(&self.key), &error),
        }
        false
    }

    /// The life of what was loaded.
    pub(crate) fn plan(&self, loaded: &LoadedAny, cost: Duration) -> Plan {
        let strategy = &self.region.strategy;
        let mut rng = fastrand::Rng::new();
        if loaded.value.is_none() {
            return strategy.plan_none(&mut rng);
        }
        strategy.plan(loaded.ttl.or(self.options.ttl), cost, &mut rng)
    }
}

impl Engine {
    /// Copies an entry of the remote tier into the near tier, through the fence; answers with it. It is refused if the key
    /// was invalidated since it was asked for: then this caller alone gets what it read.
    pub(crate) fn promote(
        &self,
        region: &RegionState,
        ticket: &Ticket<Landed>,
        entry: &RemoteEntry,
        began: u64,
        size: usize,
    ) -> Outcome<AnyValue> {
        if region.strategy.tiers.uses_near() {
            let now = self.timer.now();
            let meta = Meta { loaded_at: now - entry.age, began, tags: self.tags.cells(&entry.tags) };
            let life = NearLife {
                fresh_for: entry.fresh_for,
                stale_for: entry.stale_for,
                refresh_after: None,
                unverified: false,
            };
            let near = self.near_entry(entry.value.clone(), meta, life, region);
            let weight = Self::weight(region, &entry.value, Some(entry.bytes), size);
            ticket.commit_copy(|| {
                self.near.insert(Arc::clone(ticket.key().as_arc()), near, weight);
            });
        }
        answer(entry)
    }
}

fn answer(entry: &RemoteEntry) -> Outcome<AnyValue> {
    Outcome { value: entry.value.clone(), source: Source::Remote, age: entry.age, stale: entry.fresh_for.is_zero() }
}

/// Nobody waits for a commit; it only must not go on for ever.
fn commit_deadline(strategy: &larder_strategy::Strategy) -> Duration {
    strategy.remote_deadline.saturating_mul(20)
}

enum Step {
    Done(RemotePhase),
    SomebodyLoads(Expected),
}

enum Considered {
    Done(RemotePhase),
    SomebodyLoads(Expected),
    StaleEntry(Box<RemoteEntry>),
    Replace(Expected),
}

/// A fill token that is given back when its load does not use it, also when the load is dropped in the middle.
pub(crate) struct FillGuard {
    request: LoadRequest,
    fill: Option<Fill>,
}

impl FillGuard {
    pub(crate) fn new(request: &LoadRequest, fill: Fill) -> Self {
        Self { request: request.clone(), fill: Some(fill) }
    }

    /// Commits a loaded value, off the callers' path. The token is given back if that fails, or is dropped in the middle;
    /// taking it back after a commit whose outcome is unknown removes nothing but the placeholder.
    pub(crate) async fn commit(mut self, late: &[Tag], encoded: &Encoded, plan: &Plan, cost: Duration) {
        let Some(fill) = &self.fill else { return };
        if self.request.commit_remote(fill, late, encoded, plan, cost).await {
            self.fill = None;
        } else {
            self.release().await;
        }
    }

    /// Renews the token as long as it is ours; a token that was lost is none of the load's business.
    pub(crate) async fn renew_for_ever(&self) {
        let (Some(remote), Some(fill)) = (self.request.remote(), &self.fill) else {
            return std::future::pending().await;
        };
        loop {
            self.request.engine.timer.sleep(TOKEN_LIFE / 3).await;
            let renewal = remote.renew(&self.request.key, fill, TOKEN_LIFE);
            match self.request.engine.within(TOKEN_LIFE / 3, renewal).await {
                Ok(true) => {}
                Ok(false) => return std::future::pending().await,
                Err(error) => self.request.engine.remote_fault(&self.request.region, Some(&self.request.key), &error),
            }
        }
    }

    /// Gives the token back.
    pub(crate) async fn release(mut self) {
        if let Some(fill) = self.fill.take() {
            release(&self.request, &fill).await;
        }
    }
}

async fn release(request: &LoadRequest, fill: &Fill) {
    let Some(remote) = request.remote() else { return };
    let result = request.engine.within(TOKEN_LIFE, remote.release(&request.key, fill)).await;
    if let Err(error) = result {
        request.engine.remote_fault(&request.region, Some(&request.key), &error);
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        let Some(fill) = self.fill.take() else { return };
        // Without a runtime the token stays until its life ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let request = self.request.clone();
            drop(runtime.spawn(async move { release(&request, &fill).await }));
        }
    }
}
