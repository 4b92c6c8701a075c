//! What a leader does with the remote tier: read, wait for another process's load, place the fill token, promote, commit.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use larder_core::{Error, ErrorKind, Expected, Result, Tag, Tick, envelope::Kind};
use larder_flight::Ticket;
use larder_memory::{AnyValue, Displaced};
use larder_strategy::{Lease, Plan};

use super::{Landed, LoadRequest, LoadedAny, Meta};
use crate::engine::{
    Engine, NearLife, RegionState,
    fill::{Announce, Claim, Fill, Ground, TOKEN_LIFE},
    remote::{Encoded, Life, Reading, Remote, RemoteEntry, Stored},
};
use crate::{outcome::Outcome, value::Absent};

/// An entry of the remote tier was loaded after the near one if it is younger by this much: one load's two entries are
/// written one after the other.
const NEWER_BY: Duration = Duration::from_millis(20);

/// How often what was found while a key was being claimed is judged anew before the load goes on without a token.
const ATTEMPTS: usize = 3;

/// Where a read stands after the remote tier was asked.
#[derive(Debug)]
pub(crate) enum RemotePhase {
    /// A fresh entry: no load.
    Fresh(Box<RemoteEntry>),
    /// A stale one, or for a forced refresh a fresh one too: answer with it, unless the refresh was forced, and go on.
    Stale(Box<RemoteEntry>, Next),
    /// Nothing that can be served: go on.
    Go(Next),
    /// The remote tier failed: load, and store near only.
    Fault,
}

/// How a read goes on that the remote tier has no fresh entry for.
#[derive(Debug)]
pub(crate) enum Next {
    /// Load; without a fill token nothing is stored in the remote tier.
    Load(Option<Fill>),
    /// Another process loads, and this is the token that it shares.
    Wait(Expected),
}

impl LoadRequest {
    /// Asks the remote tier once, within the strategy's deadline. `waited`: this call has waited for another process.
    pub(crate) async fn look(&self, refresh_of: Option<Tick>, waited: bool) -> RemotePhase {
        let Some(remote) = self.remote() else { return RemotePhase::Go(Next::Load(None)) };
        let (timer, limit) = (&self.engine.timer, self.region.strategy.remote_deadline);
        let until = timer.now_precise() + limit;
        let considered = match remote.read(&self.key, &self.region, self.ops, self.reading(limit)).await {
            Ok(stored) => self.consider(stored, refresh_of, waited),
            Err(error) => return self.fault(&error),
        };
        match considered {
            Considered::Done(phase) => phase,
            Considered::Claim(stale, ground) => {
                // Boxed, so that a hit does not have its size.
                let claim = Box::pin(self.claim(remote, (stale, ground), refresh_of, waited));
                self.in_time(timer.left_of(limit, until), claim).await
            }
        }
    }

    fn reading(&self, limit: Duration) -> Reading<'_> {
        Reading { tags: self.tags(), tells: false, limit }
    }

    /// A fault of the remote tier is counted and no reason to give up.
    fn fault(&self, error: &Error) -> RemotePhase {
        self.engine.remote_fault(&self.region, Some(&self.key), error);
        RemotePhase::Fault
    }

    fn in_time(
        &self,
        limit: Duration,
        step: impl Future<Output = Result<RemotePhase>>,
    ) -> impl Future<Output = RemotePhase> {
        self.engine.within(limit, step).map(|found| found.unwrap_or_else(|error| self.fault(&error)))
    }

    /// Claims what may be loaded.
    async fn claim(
        &self,
        remote: &Remote,
        (mut stale, mut ground): (Option<Box<RemoteEntry>>, Ground),
        refresh_of: Option<Tick>,
        waited: bool,
    ) -> Result<RemotePhase> {
        for _ in 0..ATTEMPTS {
            let stored = match remote.begin_fill(&self.key, ground, &self.region, self.tags()).await? {
                Claim::Ours(fill) => return Ok(RemotePhase::of(stale, Next::Load(Some(fill)))),
                Claim::Leased(token) => return Ok(RemotePhase::of(stale, Next::Wait(token))),
                Claim::Found(bytes) => remote.judge(&self.key, bytes, &self.region, self.ops).await?,
                Claim::Changed => remote.read(&self.key, &self.region, self.ops, self.reading(Duration::MAX)).await?,
            };
            (stale, ground) = match self.consider(stored, refresh_of, waited) {
                Considered::Done(phase) => return Ok(phase),
                Considered::Claim(stale, ground) => (stale, ground),
            };
        }
        Ok(RemotePhase::Go(Next::Load(None)))
    }

    /// What a stored thing means for this call.
    pub(crate) fn consider(&self, stored: Stored, refresh_of: Option<Tick>, waited: bool) -> Considered {
        match self.weigh(stored, refresh_of, waited) {
            // Nobody is to wait for what will not be stored.
            Considered::Claim(entry, _) if self.options.no_store => {
                Considered::Done(RemotePhase::of(entry, Next::Load(None)))
            }
            considered => considered,
        }
    }

    fn weigh(&self, stored: Stored, refresh_of: Option<Tick>, waited: bool) -> Considered {
        let entry = match stored {
            // Nothing is stored, near neither: a writer that dies must not leave an old value behind.
            Stored::Held => return Considered::Done(RemotePhase::Go(Next::Load(Some(Fill::barred())))),
            Stored::LeftAlone => return Considered::Done(RemotePhase::Go(Next::Load(None))),
            Stored::Nothing => return Considered::Claim(None, Ground::Nothing),
            Stored::Dead(token) => return Considered::Claim(None, Ground::Dead(token)),
            // What began before a forced refresh is not to be stored after it.
            Stored::Loading(token) if self.options.force_refresh && !waited => {
                return Considered::Claim(None, Ground::Dead(token));
            }
            Stored::Loading(token) => return Considered::Done(RemotePhase::Go(Next::Wait(token))),
            Stored::Entry(entry) => entry,
        };
        if self.options.required && entry.value.is::<Absent>() {
            return Considered::Claim(None, Ground::Living(entry.token(), Announce::No));
        }
        // A forced refresh replaces what is stored, unless another process loaded it while this one waited.
        if self.options.force_refresh && !waited {
            let ground = Ground::Living(entry.token(), Announce::No);
            return Considered::Claim(Some(entry), ground);
        }
        let announce = if self.region.strategy.lease == Lease::Off { Announce::No } else { Announce::Yes };
        let living = |entry: &RemoteEntry| Ground::Living(entry.token(), announce);
        if entry.fresh_for.is_zero() {
            let ground = living(&entry);
            return Considered::Claim(refresh_of.is_none().then_some(entry), ground);
        }
        // By when it was loaded: the near copy's deadlines may have been cut short.
        let newer = |loaded_at: Tick| self.engine.timer.now() - entry.age > loaded_at + NEWER_BY;
        if refresh_of.is_none_or(newer) {
            Considered::Done(RemotePhase::Fresh(entry))
        } else {
            Considered::Claim(None, living(&entry))
        }
    }

    /// Waits for the process that has the token: until it has stored its value or gives the key up, or the strategy's
    /// bound has passed; then the token is shared, and the first to commit wins.
    pub(crate) async fn wait_for_other(&self, mut token: Expected, refresh_of: Option<Tick>) -> RemotePhase {
        if let Lease::Wait { bound } = self.region.strategy.lease {
            let timer = &self.engine.timer;
            let until = timer.now_precise() + bound;
            while timer.now_precise() < until {
                // First fills are not announced, so one polls; with jitter, so that losers do not poll in step.
                let pause = timer.now_precise() + Duration::from_millis(self.engine.rng().u64(5..=50));
                timer.sleep_until(pause.min(until)).await;
                match self.look(refresh_of, true).await {
                    RemotePhase::Go(Next::Wait(other)) | RemotePhase::Stale(_, Next::Wait(other)) => token = other,
                    // One look that failed says nothing of the other process; it may well store its value yet.
                    RemotePhase::Fault if !self.engine.is_away() => {}
                    ended => return ended,
                }
            }
        }
        self.share_token(token).await
    }

    /// Loads beside another process, with its token.
    pub(crate) async fn share_token(&self, token: Expected) -> RemotePhase {
        let Some(remote) = self.remote() else { return RemotePhase::Go(Next::Load(None)) };
        self.in_time(self.region.strategy.remote_deadline, async {
            let claim = remote.begin_fill(&self.key, Ground::Shared(token), &self.region, self.tags()).await?;
            Ok(RemotePhase::Go(Next::Load(if let Claim::Ours(fill) = claim { Some(fill) } else { None })))
        })
        .await
    }

    /// Copies an entry of the remote tier into the near tier, if this call uses it; answers with it.
    pub(crate) fn promote(&self, ticket: &Ticket<Landed>, entry: &RemoteEntry, began: u64) -> Outcome<AnyValue> {
        if self.writes_near() && !self.another_type_stands_near() {
            return self.engine.promote(&self.region, ticket, entry, began, self.ops.size);
        }
        entry.outcome()
    }

    /// The entry's bytes; a value that cannot be encoded is kept near only, and logged.
    pub(crate) fn encode(&self, value: &AnyValue) -> Option<Encoded> {
        // A type that panics when it is written down is no reason to lose the load, and, in a batch, those of other keys.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.try_encode(value))).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Encode, "encode", format!("{} panicked", (self.ops.type_name)())))
        });
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

    /// Commits a loaded value to the remote tier.
    async fn commit_remote(
        &self,
        fill: &Fill,
        late: &[Tag],
        encoded: &Encoded,
        plan: &Plan,
        cost: Duration,
    ) -> Committed {
        let Some(remote) = self.remote() else { return Committed::Unknown };
        let life = Life { region: &self.region, plan, cost };
        let commit = remote.commit(&self.key, fill, late, encoded, life);
        match self.engine.within(commit_deadline(&self.region.strategy), commit).await {
            Ok(true) => Committed::Stored,
            // What stands in for the remote tier has no tokens from before.
            Ok(false) if self.engine.is_away() => Committed::Unknown,
            Ok(false) => {
                crate::events::fill_lost(&self.key);
                Committed::Lost
            }
            Err(error) => {
                self.engine.remote_fault(&self.region, Some(&self.key), &error);
                Committed::Unknown
            }
        }
    }

    /// The life of what was loaded.
    pub(crate) fn plan(&self, loaded: &LoadedAny, cost: Duration) -> Plan {
        let strategy = &self.region.strategy;
        let mut rng = self.engine.rng();
        let ttl = loaded.ttl.or(self.options.ttl);
        if loaded.value.is_none() && ttl.is_none_or(|ttl| !ttl.is_zero()) {
            return strategy.plan_none(&mut rng);
        }
        strategy.plan(ttl, cost, &mut rng)
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
        let now = self.timer.now();
        let meta = Meta::new(now - entry.age, began, self.tags.cells(&entry.tags));
        let elapsed = entry.ttl.saturating_sub(entry.fresh_for);
        let early = region.strategy.refresh_after(entry.ttl, entry.cost, &mut self.rng());
        let life = NearLife {
            from: entry.asked_at,
            fresh_for: entry.fresh_for,
            stale_for: entry.stale_for,
            refresh_after: early.map(|after| after.saturating_sub(elapsed)),
            unverified: false,
        };
        let near = self.near_entry(entry.value.clone(), meta, life, region);
        let weight = Self::weight(region, &entry.value, Some(entry.bytes), size);
        let mut displaced = Displaced::default();
        ticket.commit_copy(|| {
            self.near.insert_with(Arc::clone(ticket.key().as_arc()), near, weight, &mut displaced);
        });
        entry.outcome()
    }
}

/// Nobody waits for a commit; it only must not go on for ever.
fn commit_deadline(strategy: &larder_strategy::Strategy) -> Duration {
    strategy.remote_deadline.saturating_mul(20)
}

impl RemotePhase {
    fn of(stale: Option<Box<RemoteEntry>>, next: Next) -> Self {
        match stale {
            Some(entry) => Self::Stale(entry, next),
            None => Self::Go(next),
        }
    }
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    Stored,
    /// The token was not there any more: the key was removed or written since before the load.
    Lost,
    Unknown,
}

/// What a stored thing means for a call.
pub(crate) enum Considered {
    /// Nothing is to be claimed.
    Done(RemotePhase),
    /// The key is to be claimed for a load; the entry may be served until then.
    Claim(Option<Box<RemoteEntry>>, Ground),
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
    pub(crate) async fn commit(mut self, late: &[Tag], encoded: &Encoded, plan: &Plan, cost: Duration) -> Committed {
        let Some(fill) = &self.fill else { return Committed::Unknown };
        let committed = self.request.commit_remote(fill, late, encoded, plan, cost).await;
        if committed == Committed::Stored && !fill.is_leased() {
            // The value stands where the placeholder stood.
            self.fill = None;
        } else {
            self.release().await;
        }
        committed
    }

    /// Removes the entry that the load was to replace: there is no value any more. Gives the token back.
    pub(crate) async fn remove_replaced(self) {
        let Self { request, fill } = &self;
        if let (Some(remote), Some(fill)) = (request.remote(), fill) {
            let removal = remote.remove_replaced(&request.key, fill);
            if let Err(error) = request.engine.within(commit_deadline(&request.region.strategy), removal).await {
                request.engine.remote_fault(&request.region, Some(&request.key), &error);
            }
        }
        self.release().await;
    }

    /// Whether a writer holds the key, so that the load stores nothing.
    pub(crate) fn is_barred(&self) -> bool {
        self.fill.as_ref().is_some_and(Fill::is_barred)
    }

    /// Renews the token as long as it is ours; a token that was lost is none of the load's business.
    pub(crate) async fn renew_for_ever(&self) {
        let (Some(remote), Some(fill)) = (self.request.remote(), &self.fill) else {
            return std::future::pending().await;
        };
        loop {
            self.request.engine.timer.sleep(TOKEN_LIFE / 3).await;
            let renewal = remote.renew(fill);
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
    let result = request.engine.within(TOKEN_LIFE, remote.release(fill)).await;
    if let Err(error) = result {
        request.engine.remote_fault(&request.region, Some(&request.key), &error);
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        let Some(fill) = self.fill.take() else { return };
        // Without a runtime the token stays until its life ends.
        if tokio::runtime::Handle::try_current().is_ok() {
            let request = self.request.clone();
            let engine = Arc::clone(&request.engine);
            engine.spawn(async move { release(&request, &fill).await });
        }
    }
}
