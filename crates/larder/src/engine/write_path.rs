//! Writes: a caller's `set`, `add`, `delete`, `expire`. Each fences the loads of its key before it is sent and again when
//! it has been answered, so that no older value gets in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_codec::AnyCodec;
use larder_core::{
    BackendExt, Condition, Error, ErrorKind, Expected, Expiry, GetOptions, Key, Result, SetOptions, SetOutcome, Tag,
    Tick, Ttl,
    envelope::{self, Header, Kind},
};
use larder_flight::Ticket;
use larder_memory::{AnyValue, Displaced, NearEntry};
use larder_strategy::Plan;

use super::{Encoded, Engine, Landed, Life, Meta, NearLife, NearRead, RegionState, Remote};
use crate::{
    stats::Event,
    value::{ValueOps, is_present},
};

/// One write.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: Key,
    pub(crate) value: AnyValue,
    pub(crate) ops: &'static ValueOps,
    pub(crate) tags: Vec<Tag>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) condition: Condition,
    pub(crate) codec: Option<AnyCodec>,
    pub(crate) skip_near: bool,
    pub(crate) skip_remote: bool,
}

impl Write {
    /// A value without tags or conditions.
    pub(crate) fn plain(key: Key, value: AnyValue, ops: &'static ValueOps, ttl: Option<Ttl>) -> Self {
        Self {
            key,
            value,
            ops,
            tags: Vec::new(),
            ttl,
            condition: Condition::Always,
            codec: None,
            skip_near: false,
            skip_remote: false,
        }
    }
}

impl Engine {
    /// Writes a value in both tiers.
    pub(crate) async fn write(&self, region: &RegionState, write: Write) -> Result<SetOutcome> {
        if !self.is_enabled() {
            return Ok(SetOutcome::Rejected);
        }
        region.check_tags("set", &write.key, &write.tags)?;
        region.counters.count(Event::Set);
        let remote = self.remote_of(region).filter(|_| !write.skip_remote && write.ops.serde.is_some());
        match remote {
            Some(remote) => self.write_through(remote, region, write).await,
            None => self.write_near(region, &write),
        }
    }

    async fn write_through(&self, remote: &Remote, region: &RegionState, write: Write) -> Result<SetOutcome> {
        let plan = match self.write_plan(region, &write, Some(remote)).await {
            Ok(plan) => plan,
            Err(error) => {
                self.forget(&write.key);
                if write.condition == Condition::Always {
                    self.not_written(region, std::slice::from_ref(&write.key)).await;
                }
                return Err(error);
            }
        };
        let encoded = encode(region, &write)?;
        let bytes = encoded.payload.bytes.len();
        let (began, from) = (self.tags.epoch(), self.timer.now());
        // Loads and reads that are under way hold something older.
        self.forget(&write.key);
        let mut ticket = self.flights.ticket(&write.key);
        let options = condition(write.condition);
        let life = Life { region, plan: &plan, cost: Duration::ZERO };
        let was_sent = AtomicBool::new(false);
        let sent = remote.write(&write, &encoded, life, (options, &was_sent));
        // A write that is dropped: what was read meanwhile may be older than what it has written.
        let abandoned = SecondFence::new(|| self.forget_all([&write.key]));
        let answer = self.within(region.strategy.remote_deadline, sent).await;
        abandoned.not_needed();
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(error) => {
                // Whether it was written is unknown. The value is not kept near, and what others hold is older.
                self.forget(&write.key);
                if !was_sent.load(Ordering::Relaxed) && write.condition == Condition::Always {
                    self.not_written(region, std::slice::from_ref(&write.key)).await;
                }
                return Err(error);
            }
        };
        if outcome.is_stored() {
            let near = !write.skip_near && region.strategy.tiers.uses_near();
            if !near || !self.keep_written(&mut ticket, region, &write, &plan, (began, from, bytes)) {
                self.forget(&write.key);
            }
            self.announce(std::slice::from_ref(&write.key)).await;
        }
        Ok(outcome)
    }

    /// A write that was given up before it was sent: what it would have replaced must not stay. Removed now, or from the
    /// journal.
    pub(crate) async fn not_written(&self, region: &RegionState, keys: &[Key]) {
        let _again = SecondFence::new(|| self.forget_all(keys));
        self.forget_all(keys);
        let removal = async { Ok(self.remove(keys).await) };
        let answers = self.within(region.strategy.remote_deadline, removal).await.and_then(super::tally);
        if let Err(error) = answers {
            self.remote_fault(region, keys.first(), &error);
        }
    }

    pub(crate) fn write_near(&self, region: &RegionState, write: &Write) -> Result<SetOutcome> {
        if write.skip_near || !region.strategy.tiers.uses_near() {
            return Ok(SetOutcome::Rejected);
        }
        let now = self.timer.now();
        let began = self.tags.epoch();
        let plan = match write.ttl {
            Some(Ttl::Keep) => keep(self.near_ttl(&write.key).and_then(larder_core::Remaining::duration)),
            other => plan_for(region, other),
        };
        let (entry, weight) = self.written(region, write, &plan, (began, now), None);
        // What gives way is dropped outside the fence's lock: a value's `Drop` may use the cache. So is what was read, even of an
        // entry that is dead: if the tier drops it meanwhile, the copy is its last owner.
        let (mut displaced, mut read, mut replaced) = (Displaced::default(), NearRead::MISS, None);
        let outcome = self.flights.raise(&write.key, || {
            read = self.near_read(write.key.as_str(), now);
            let present = read.as_living().is_some_and(|entry| is_present(&entry.value));
            if !holds(write.condition, present) {
                return SetOutcome::Rejected;
            }
            replaced = self.near.remove(write.key.as_str());
            if plan.is_stored() {
                self.near.insert_with(Arc::clone(write.key.as_arc()), entry, weight, &mut displaced);
            }
            SetOutcome::Stored
        });
        drop((read, replaced));
        Ok(outcome)
    }

    /// Keeps a value near that the remote tier has stored; answers whether the fence let it through.
    pub(crate) fn keep_written(
        &self,
        ticket: &mut Ticket<Landed>,
        region: &RegionState,
        write: &Write,
        plan: &Plan,
        (began, from, bytes): (u64, Tick, usize),
    ) -> bool {
        let (entry, weight) = self.written(region, write, plan, (began, from), Some(bytes));
        let mut displaced = Displaced::default();
        let kept = ticket.commit(|| {
            self.near.insert_with(Arc::clone(write.key.as_arc()), entry, weight, &mut displaced);
        });
        // What a read past the near tier found while the write was on its way, and has answered with.
        self.serving.forget(|key| *key == write.key);
        kept
    }

    fn written(
        &self,
        region: &RegionState,
        write: &Write,
        plan: &Plan,
        (began, from): (u64, Tick),
        bytes: Option<usize>,
    ) -> (NearEntry<Meta>, u64) {
        let meta = Meta::new(self.timer.now(), began, self.tags.cells(&write.tags));
        let Plan { fresh_for, stale_for, .. } = *plan;
        let life = NearLife { from, fresh_for, stale_for, refresh_after: None, unverified: false };
        let entry = self.near_entry(write.value.clone(), meta, life, region);
        (entry, Self::weight(region, &write.value, bytes, write.ops.size))
    }

    async fn write_plan(&self, region: &RegionState, write: &Write, remote: Option<&Remote>) -> Result<Plan> {
        match (write.ttl, remote) {
            // Not the backend's answer: a fill token's time is nobody's.
            (Some(Ttl::Keep), Some(_)) => {
                let left = match self.ttl(&write.key).await {
                    // In an outage nothing lives for longer than its TTL in any case.
                    Err(_) if self.is_away() => None,
                    left => left?,
                };
                Ok(keep(left.and_then(larder_core::Remaining::duration)))
            }
            (other, _) => Ok(plan_for(region, other)),
        }
    }

    /// Removes keys from both tiers; answers how many there were, in either.
    pub(crate) async fn delete(&self, region: &RegionState, keys: &[Key]) -> Result<u64> {
        region.counters.add(Event::Delete, keys.len() as u64);
        let near: Vec<bool> = keys
            .iter()
            .map(|key| {
                let lives = self.near_ttl(key).is_some();
                self.forget(key);
                lives
            })
            .collect();
        // Somebody may have fetched the old value between the first fence and the removal, also if this is dropped.
        let again = SecondFence::new(|| self.forget_all(keys));
        let deadline = region.strategy.remote_deadline;
        let answers = self.within(deadline, async { Ok(self.remove(keys).await) }).await;
        drop(again);
        if answers.is_err() {
            self.announce_unsure(keys).await;
        }
        let mut removed = 0;
        for (near, remote) in near.into_iter().zip(answers?) {
            // A removal that is only remembered will happen before anybody reads the key again.
            let (remote, _deferred) = super::tally(vec![remote])?;
            removed += u64::from(remote > 0 || near);
        }
        Ok(removed)
    }

    /// Changes how long a key lives; answers whether it was there.
    pub(crate) async fn expire(&self, region: &RegionState, key: &Key, ttl: Ttl) -> Result<bool> {
        let Some(remote) = self.remote_of(region) else { return self.expire_local(region, key, ttl).await };
        if matches!(ttl, Ttl::For(duration) if duration.is_zero()) {
            // A removal, which the journal takes if the remote tier does not.
            return Ok(self.delete(region, std::slice::from_ref(key)).await? > 0);
        }
        // The near copy has the old deadlines; the next read fetches the new ones.
        let again = SecondFence::new(|| self.forget_all([key]));
        let deadline = region.strategy.remote_deadline;
        let changed = self.within(deadline, self.expire_remote(remote, key, ttl)).await;
        drop(again);
        if changed.as_ref().is_ok_and(|changed| *changed) {
            self.announce(std::slice::from_ref(key)).await;
        }
        changed
    }

    /// An entry's own deadlines are patched together with its life, if it is still the entry that was read.
    async fn expire_remote(&self, remote: &Remote, key: &Key, ttl: Ttl) -> Result<bool> {
        let expiry = match ttl {
            Ttl::Keep => return remote.backend.exists(key).await,
            Ttl::For(duration) if larder_core::ttl_millis(duration).is_some() => Expiry::After(duration),
            _ => Expiry::Never,
        };
        let Some(bytes) = remote.get_or_fault(key, GetOptions::new()).await?.map(|found| found.value) else {
            // The fallback does not know what the remote tier has.
            return if self.is_away() { Err(self.away("expire").with_key(key)) } else { Ok(false) };
        };
        let Ok((header, _)) = Header::decode(&bytes) else { return remote.backend.expire(key, expiry).await };
        if header.kind != Kind::Value || !remote.holds(&bytes).await? {
            return Ok(false);
        }
        let Expiry::After(duration) = expiry else {
            return self.patch(remote, key, &header, bytes.to_vec(), None).await;
        };
        self.patch(remote, key, &header, bytes.to_vec(), Some(duration)).await
    }

    async fn patch(
        &self,
        remote: &Remote,
        key: &Key,
        header: &Header,
        mut bytes: Vec<u8>,
        life: Option<Duration>,
    ) -> Result<bool> {
        let now = remote.server_now(key);
        let until = life.map_or(larder_core::UnixMillis::FOREVER, |life| now + life);
        let mut ttl_ms = life.and_then(larder_core::ttl_millis).unwrap_or(u64::MAX);
        if self.is_away() && header.ttl_ms != u64::MAX {
            // A new life makes it no younger: the outage TTL counts from when it was stored.
            let left = header.stale_until.remaining(now);
            let age = header.ttl_ms.saturating_sub(larder_core::ttl_millis(left).unwrap_or(u64::MAX));
            ttl_ms = ttl_ms.saturating_add(age);
        }
        if let Err(reason) = envelope::patch_deadlines(&mut bytes, until, until, ttl_ms) {
            return Err(Error::new(ErrorKind::Decode, "expire", reason.as_str()).with_key(key));
        }
        let atomic = remote.backend.as_atomic().ok_or_else(|| Error::unsupported("expire", remote.backend.name()))?;
        let options = SetOptions::new().ttl(life);
        let expected = Expected::prefix(header.token().to_vec());
        Ok(atomic.compare_and_set(key, &expected, bytes.into(), options).await?.is_stored())
    }

    async fn expire_local(&self, region: &RegionState, key: &Key, ttl: Ttl) -> Result<bool> {
        let now = self.timer.now();
        let plan = plan_for(region, Some(ttl));
        // As in `write_near`: nothing is dropped under the lock.
        let (mut displaced, mut read, mut removed) = (Displaced::default(), NearRead::MISS, None);
        let changed = self.flights.raise(key, || {
            read = self.near_read(key.as_str(), now);
            let present = read.as_living().is_some_and(|entry| is_present(&entry.value));
            if !present || ttl == Ttl::Keep {
                return present;
            }
            if !plan.is_stored() {
                removed = self.near.remove(key.as_str());
                return removed.is_some();
            }
            let deadline = if plan.is_endless() { Tick::FOREVER } else { now + plan.fresh_for };
            let amend = |entry: &mut NearEntry<Meta>| {
                (entry.fresh_until, entry.stale_until, entry.refresh_at) = (deadline, deadline, deadline);
            };
            self.near.amend(Arc::clone(key.as_arc()), amend, &mut displaced)
        });
        drop((read, removed));
        if changed {
            return Ok(true);
        }
        let expiry = match ttl {
            Ttl::For(duration) => Expiry::After(duration),
            Ttl::Keep => return self.local.exists(key).await,
            _ => Expiry::Never,
        };
        self.local.expire(key, expiry).await
    }
}

/// What is done again when a removal or a write has been answered, or is dropped before that.
pub(crate) struct SecondFence<F: FnMut()>(Option<F>);

impl<F: FnMut()> SecondFence<F> {
    pub(crate) fn new(raise: F) -> Self {
        Self(Some(raise))
    }

    pub(crate) fn not_needed(mut self) {
        self.0 = None;
    }
}

impl<F: FnMut()> Drop for SecondFence<F> {
    fn drop(&mut self) {
        if let Some(mut raise) = self.0.take() {
            raise();
        }
    }
}

pub(crate) fn encode(region: &RegionState, write: &Write) -> Result<Encoded> {
    let serde = write.ops.serde.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "set", format!("{} is kept near only", (write.ops.type_name)()))
    })?;
    let payload = (serde.encode)(&write.value, write.codec.unwrap_or(region.codec), region.compression)?;
    Ok(Encoded { kind: Kind::Value, payload })
}

fn condition(condition: Condition) -> SetOptions {
    match condition {
        Condition::IfAbsent => SetOptions::new().only_if_absent(),
        Condition::IfPresent => SetOptions::new().only_if_present(),
        _ => SetOptions::new(),
    }
}

fn holds(condition: Condition, present: bool) -> bool {
    match condition {
        Condition::IfAbsent => !present,
        Condition::IfPresent => present,
        _ => true,
    }
}

/// What a caller writes lives for exactly the TTL that was asked for: no jitter, no stale window. Without one, the
/// region's policy counts.
pub(crate) fn plan_for(region: &RegionState, ttl: Option<Ttl>) -> Plan {
    let mut rng = fastrand::Rng::new();
    match ttl {
        None | Some(Ttl::Keep) => region.strategy.plan(None, Duration::ZERO, &mut rng),
        Some(Ttl::For(ttl)) => exactly(region, ttl),
        Some(_) => exactly(region, Duration::MAX),
    }
}

fn exactly(region: &RegionState, ttl: Duration) -> Plan {
    let exact = region.strategy.clone().jitter(0.0).stale_window(Duration::ZERO);
    exact.plan(Some(ttl), Duration::ZERO, &mut fastrand::Rng::new())
}

fn keep(left: Option<Duration>) -> Plan {
    let plain = larder_strategy::Strategy::new("keep", Duration::MAX).jitter(0.0);
    plain.plan(left, Duration::ZERO, &mut fastrand::Rng::new())
}
