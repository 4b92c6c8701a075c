//! What concerns many keys: batches, listings, invalidations.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{
    Announcement, Backend, BackendExt, BusSource, Each, Error, GetOptions, Invalidated, Key, Pattern, Remaining,
    Result, SCAN_PAGE, Scanned, SetItem, SetOptions, SetOutcome, Status, Tag, Target, Ttl,
    envelope::{Header, Kind, TagVersion},
};
use larder_fallback::Deferred;
use larder_memory::{AnyValue, NearEntry};

use super::{
    Engine, Life, Meta, NearRead, Reading, RegionState, Remote, Stored, Write, hold::HOLD_LIFE, write_path::SecondFence,
};
use crate::{
    coherence::{Body, Sending, portions},
    outcome::Outcome,
    stats::Event,
    value::{ValueOps, is_present},
};

/// Keys that a pattern's run looks for, and removes, at once. The server answers nobody else meanwhile: it takes about 2 us for
/// each, so that others hardly notice. A longer page costs less time in all, and in a cluster more bytes, since nearly each key
/// is removed there with a message of its own that names all of them.
const SWEPT_TOGETHER: usize = 32;

/// Messages' worth of keys that a removal has on its way at once. In a cluster each of the keys may be told of by itself, and the
/// others wait for no more messages than they would miss (`MOST_MISSING`).
const PORTIONS_TOGETHER: usize = 2;

/// What came of a batch of writes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) stored: usize,
    /// How many of these only the fallback has.
    pub(crate) stood_in: usize,
}

impl Engine {
    /// Reads many keys of the remote tier in one round trip, and promotes what it finds.
    pub(crate) async fn read_many(
        &self,
        region: &Arc<RegionState>,
        keys: &[Key],
        ops: &'static ValueOps,
        tells: bool,
    ) -> Result<Vec<Option<Outcome<AnyValue>>>> {
        let Some(remote) = self.remote_of(region).filter(|_| !keys.is_empty()) else {
            return Ok(keys.iter().map(|_| None).collect());
        };
        let began = self.tags.epoch();
        // What is not promoted needs no fence.
        let promotes = region.strategy.tiers.uses_near();
        let mut tickets: Vec<_> = keys.iter().map(|key| promotes.then(|| self.flights.ticket(key))).collect();
        let limit = region.strategy.remote_deadline;
        let mut outcomes: Vec<_> = keys.iter().map(|_| None).collect();
        let mut fault = None;
        let how = Reading { tags: &[], tells, limit };
        let mut take = |index: usize, stored: Result<Stored>| match stored {
            Ok(Stored::Entry(entry)) => {
                outcomes[index] = Some(match tickets[index].take() {
                    Some(ticket) => self.promote(region, &ticket, &entry, began, ops.size),
                    None => entry.outcome(),
                });
            }
            Ok(_) => {}
            Err(error) => {
                // What all of them ran into is told once.
                if fault.as_ref().is_none_or(|fault: &Error| fault.kind() != error.kind()) {
                    self.remote_fault(region, Some(&keys[index]), &error);
                }
                fault = Some(error);
            }
        };
        remote.read_many(keys, region, ops, how, &mut take).await;
        match fault {
            Some(error) if tells => Err(error),
            // Only the fallback was asked: whether there is a value is unknown.
            _ if tells && self.is_away() && outcomes.iter().any(Option::is_none) => Err(self.away("get_many")),
            _ => Ok(outcomes),
        }
    }

    /// Writes many values in one round trip, and tells the other processes of those that were stored, also if others
    /// failed.
    pub(crate) async fn write_many(
        &self,
        region: &RegionState,
        items: &[(Key, AnyValue)],
        ops: &'static ValueOps,
        ttl: Option<Duration>,
    ) -> Result<Written> {
        region.counters.add(Event::Set, items.len() as u64);
        let writes =
            items.iter().map(|(key, value)| Write::plain(key.clone(), Arc::clone(value), ops, ttl.map(Ttl::For)));
        let Some(remote) = self.remote_of(region) else {
            let mut written = Written::default();
            for write in writes {
                written.stored += usize::from(self.write_near(region, &write)?.is_stored());
            }
            return Ok(written);
        };
        let began = self.tags.epoch();
        let from = self.timer.now();
        let versions = self.versions_of_many(remote, region, items).await?;
        let mut sent = Vec::with_capacity(items.len());
        let mut batch = Vec::with_capacity(items.len());
        for write in writes {
            let plan = super::write_path::plan_for(region, write.ttl);
            let encoded = super::write_path::encode(region, &write)?;
            let bytes = encoded.payload.bytes.len();
            let life = Life { region, plan: &plan, cost: Duration::ZERO };
            let value = remote.entry(&write.key, &encoded, versions.clone(), life)?;
            batch.push(SetItem::new(write.key.clone(), value, SetOptions::new().ttl(super::remote::ttl(&plan))));
            self.forget(&write.key);
            sent.push((self.flights.ticket(&write.key), write, plan, bytes));
        }
        let abandoned = SecondFence::new(|| self.forget_all(items.iter().map(|(key, _)| key)));
        // A batch takes longer than a single command; the backend bounds each of its commands itself.
        let limit = region.strategy.remote_deadline.saturating_mul(20);
        let answers = self.within(limit, async { Ok(remote.backend.set_many(&batch).await) }).await;
        abandoned.not_needed();
        let (mut stored, mut stood_in) = (Vec::new(), 0);
        let mut fault = answers.as_ref().err().cloned();
        for ((mut ticket, write, plan, bytes), answer) in sent.into_iter().zip(answers.unwrap_or_default()) {
            match answer {
                Ok(outcome) if outcome.is_stored() => {
                    stored.push(write.key.clone());
                    stood_in += usize::from(outcome == SetOutcome::StoodIn);
                    if region.strategy.tiers.uses_near()
                        && !self.keep_written(&mut ticket, region, &write, &plan, (began, from, bytes))
                    {
                        self.forget(&write.key);
                    }
                }
                Ok(_) => {}
                Err(error) => fault = Some(error),
            }
        }
        let written = Written { stored: stored.len(), stood_in };
        if written.stored > 0 {
            self.announce(&stored).await;
        }
        match fault {
            None => Ok(written),
            Some(error) => {
                self.forget_all(items.iter().map(|(key, _)| key));
                Err(error)
            }
        }
    }

    /// What entries without tags of their own carry.
    async fn versions_of_many(
        &self,
        remote: &Remote,
        region: &RegionState,
        items: &[(Key, AnyValue)],
    ) -> Result<Vec<TagVersion>> {
        match self.within(region.strategy.remote_deadline, remote.versions(region, &[])).await {
            Ok(versions) => Ok(versions.tags),
            Err(error) => {
                let keys: Vec<Key> = items.iter().map(|(key, _)| key.clone()).collect();
                self.not_written(region, &keys).await;
                Err(error)
            }
        }
    }

    /// How long a key has left, in whichever tier it is; the memory that there is no value is none.
    pub(crate) async fn ttl(&self, key: &Key) -> Result<Option<Remaining>> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let Some(remote) = &self.remote else {
            return match self.near_ttl(key) {
                Some(left) => Ok(Some(left)),
                None => self.local.ttl(key).await,
            };
        };
        let limit = self.root.strategy.remote_deadline;
        let found = self.within(limit, remote.get_or_fault(key, GetOptions::new().with_ttl())).await?;
        let Some(found) = found else {
            return match self.near_ttl(key) {
                // The fallback does not know what the remote tier has.
                None if self.is_away() => Err(self.away("ttl").with_key(key)),
                left => Ok(left),
            };
        };
        // A fill token is no value: nobody has stored one yet. Nor is what was invalidated. What stands near alone is one.
        let is_value = match Header::decode(&found.value) {
            Ok((header, _)) => header.kind == Kind::Value && self.within(limit, remote.holds(&found.value)).await?,
            Err(_) => true,
        };
        Ok(if is_value { found.remaining } else { self.near_ttl(key) })
    }

    pub(super) fn near_ttl(&self, key: &Key) -> Option<Remaining> {
        self.remaining(self.near.get(key.as_str()))
    }

    fn remaining(&self, entry: Option<NearEntry<Meta>>) -> Option<Remaining> {
        let now = self.timer.now();
        let entry = NearRead::of(entry, now, &self.coherence).living()?;
        if !is_present(&entry.value) {
            return None;
        }
        let forever = entry.stale_until == larder_core::Tick::FOREVER;
        Some(if forever { Remaining::Forever } else { Remaining::For(entry.stale_until.since(now)) })
    }

    /// Keys that match, at most `limit`, sorted.
    pub(crate) async fn list(&self, pattern: &Pattern, limit: usize) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        if self.remote.is_none() {
            self.near.for_each(|key, entry| {
                if pattern.matches(key) && self.remaining(Some(entry)).is_some() {
                    keys.push(Key::from_canonical(key));
                }
            });
        }
        let mut pages = self.store().scan_power("keys")?.scan(pattern, SCAN_PAGE);
        while let Some(mut page) = pages.try_next().await? {
            page.retain(|key| !self.is_own(key));
            keys.extend(self.without_tokens(page).await?);
            if keys.len() >= limit.saturating_mul(2) {
                break;
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(limit);
        Ok(keys)
    }

    /// Keys without those that hold no entry but a fill token or a hold. Only what has as little left as these is looked at.
    async fn without_tokens(&self, mut keys: Vec<Key>) -> Result<Vec<Key>> {
        let store = self.store();
        let is_short = |left: &Remaining| matches!(left, Remaining::For(left) if *left <= HOLD_LIFE);
        let mut short = Vec::new();
        for (key, left) in keys.iter().zip(store.ttl_many(&keys).await) {
            if left?.as_ref().is_some_and(is_short) {
                short.push(key.clone());
            }
        }
        let mut tokens = HashSet::new();
        for (key, found) in short.iter().zip(store.get_many(&short, GetOptions::new()).await) {
            let header = found?.and_then(|found| Header::decode(&found.value).ok().map(|(header, _)| header.kind));
            if matches!(header, Some(Kind::Placeholder | Kind::Hold)) {
                tokens.insert(key);
            }
        }
        keys.retain(|key| !tokens.contains(key));
        Ok(keys)
    }

    /// Carries an invalidation out: here, in the remote tier together with the message to the other processes, and here
    /// again.
    pub(crate) async fn invalidate(&self, target: Target) -> Result<Invalidated> {
        self.invalidate_watched(target, &mut |_| {}).await
    }

    /// The same, telling how far a scan has come.
    pub(crate) async fn invalidate_watched(
        &self,
        target: Target,
        watch: &mut (dyn FnMut(Scanned) + Send),
    ) -> Result<Invalidated> {
        let mut near = self.apply(&target);
        // Somebody may have fetched an old value between the first fence and the removal, also if this is dropped.
        let again = SecondFence::new(|| near += self.apply(&target));
        let removed = self.remove_target(&target, watch).await;
        drop(again);
        match removed {
            Ok((remote, deferred)) => {
                let mut invalidated = Invalidated::done(near, remote);
                if deferred {
                    invalidated.status = Status::Deferred;
                }
                Ok(invalidated)
            }
            Err(error) => {
                self.remote_fault(&self.root, None, &error);
                Err(error)
            }
        }
    }

    /// How many keys or markers were removed, and whether removals are still to come.
    async fn remove_target(&self, target: &Target, watch: &mut (dyn FnMut(Scanned) + Send)) -> Result<(u64, bool)> {
        if self.remote.is_none() {
            return match target {
                Target::Keys(keys) => tally(self.local.delete_many(keys).await),
                // Counters and locks belong to no tag, region or generation.
                Target::Tags(_) | Target::Region(_) | Target::Everything => Ok((0, false)),
                wide => self.remove_matching(wide, watch).await,
            };
        }
        match target {
            Target::Keys(keys) => tally(self.remove(keys).await),
            Target::Tags(tags) => self.remove_tags(tags).await,
            Target::Region(prefix) => self.remove_marker(&self.tag_of(prefix)).await,
            Target::Everything => self.remove_marker(&Tag::everything()).await,
            wide => match self.remove_matching(wide, watch).await {
                Err(error) if error.is_transient() || error.kind().is_backend_fault() => {
                    // What stands there cannot be listed now. The journal holds keys: the one that stands for all entries,
                    // since the text of a key does not tell which handle wrote it.
                    self.remove_marker(&Tag::everything()).await?;
                    self.apply(&Target::Everything);
                    Ok((0, true))
                }
                answer => answer,
            },
        }
    }

    /// The marker that goes with every tag's is removed first, and the others when that is confirmed: a load that makes a tag's
    /// marker anew must find that the common one has changed. Where it is not confirmed, they are removed at once all the same,
    /// since there are readers, and once more after the common one.
    async fn remove_tags(&self, tags: &[Tag]) -> Result<(u64, bool)> {
        if tags.is_empty() {
            return Ok((0, false));
        }
        let barred = self.remove_marker(&Tag::any()).await;
        let markers: Vec<Key> = tags.iter().map(|tag| tag.marker(&self.prefix)).collect();
        let (removed, mut deferred) = tally(self.remove(&markers).await)?;
        if barred?.1 {
            deferred = true;
            if let Some(fallback) = &self.fallback
                && !fallback.remember(&markers).await
            {
                return Err(self.away("invalidate"));
            }
        }
        Ok((removed, deferred))
    }

    async fn remove_marker(&self, tag: &Tag) -> Result<(u64, bool)> {
        tally(self.remove(&[tag.marker(&self.prefix)]).await)
    }

    /// Removes keys from the remote tier and tells the other processes of it, in one step for what lies together.
    pub(crate) async fn remove(&self, keys: &[Key]) -> Each<bool> {
        let store = self.store();
        let Some(bus) = store.as_bus().filter(|_| self.remote.is_some() && self.coherence.speaks()) else {
            return store.delete_many(keys).await;
        };
        if self.is_away() {
            // The journal takes them, and has its own messages when it is replayed.
            let coherence = Arc::clone(&self.coherence);
            let message: Announcement = Arc::new(move |keys| coherence.removal(keys));
            return bus.remove_and_publish(keys, self.coherence.channel(), &message).await;
        }
        // Collected, since a lazy stream of borrowing futures is not known to be `Send`.
        let portions: Vec<_> = portions(keys).into_iter().map(|keys| self.remove_portion(bus, keys)).collect();
        let answers = stream::iter(portions).buffered(PORTIONS_TOGETHER).collect::<Vec<_>>().await.concat();
        if !answers.iter().all(Result::is_ok) {
            self.announce_unsure(keys).await;
        }
        answers
    }

    async fn remove_portion(&self, bus: &dyn BusSource, keys: &[Key]) -> Each<bool> {
        let sending = Sending::new(&self.coherence);
        let answers = bus.remove_and_publish(keys, self.coherence.channel(), &sending.announcement()).await;
        sending.answered(keys, &answers);
        answers
    }

    /// Finds what a pattern or a part names, page by page, and tells the others at the end of what they may hold besides.
    async fn remove_matching(&self, target: &Target, watch: &mut (dyn FnMut(Scanned) + Send)) -> Result<(u64, bool)> {
        let Some(pattern) = target.scan_pattern(&self.prefix) else { return Ok((0, false)) };
        let opened = self.fallback.as_ref().map_or(0, |fallback| fallback.stats().opened);
        let mut pages = self.store().scan_power("invalidate")?.scan(&pattern, SWEPT_TOGETHER);
        let (mut scanned, mut deferred) = (Scanned::default(), false);
        while let Some(mut page) = pages.try_next().await? {
            let looked_at = page.len() as u64;
            page.retain(|key| target.matches(key.as_str()) && !self.is_own(key));
            let (more, later) = tally(self.remove(&page).await)?;
            scanned.add(looked_at, more);
            deferred |= later;
            watch(scanned);
        }
        if let Some(fallback) = &self.fallback {
            let stats = fallback.stats();
            if stats.opened != opened || !stats.state.lets_calls_through() {
                // Keys that were met meanwhile were left out.
                return Err(self.away("invalidate"));
            }
            // Keys whose removal is only remembered are left out too.
            deferred |= stats.journal > 0;
        }
        let told = match target {
            Target::Pattern(pattern) => self.publish_message(Body::Pattern(pattern.clone())).await,
            Target::Part { prefix, part } => {
                self.publish_message(Body::Part { prefix: prefix.clone(), part: part.clone() }).await
            }
            _ => true,
        };
        // Who was not told misses the message within two heartbeats, and starts its near tier anew.
        Ok((scanned.removed, deferred || !told))
    }

    /// What Larder keeps for itself is no entry: patterns leave it.
    fn is_own(&self, key: &Key) -> bool {
        key.is_internal(&self.prefix)
    }

    /// How many keys an invalidation would touch; `None` for tags.
    pub(crate) async fn preview(&self, target: &Target) -> Result<Option<u64>> {
        let store = self.store();
        let near = |engine: &Self| {
            let mut count = 0;
            engine.near.for_each(|key, _| count += u64::from(target.matches(key)));
            count
        };
        match target {
            Target::Tags(_) => Ok(None),
            Target::Keys(keys) => {
                let mut count = 0;
                for answer in store.ttl_many(keys).await {
                    count += u64::from(answer?.is_some());
                }
                Ok(Some(if self.remote.is_some() { count } else { count + near(self) }))
            }
            wide => {
                let Some(pattern) = wide.scan_pattern(&self.prefix) else { return Ok(None) };
                let mut pages = store.scan_power("preview")?.scan(&pattern, SCAN_PAGE);
                let mut count = 0;
                while let Some(page) = pages.try_next().await? {
                    count += page.iter().filter(|key| wide.matches(key.as_str()) && !self.is_own(key)).count() as u64;
                }
                Ok(Some(if self.remote.is_some() { count } else { count + near(self) }))
            }
        }
    }
}

/// How many keys were there, and whether some are only remembered by the journal.
///
/// # Errors
/// The first removal that neither happened nor will.
pub(crate) fn tally(answers: Each<bool>) -> Result<(u64, bool)> {
    let (mut removed, mut deferred) = (0, false);
    for answer in answers {
        match answer {
            Ok(was_there) => removed += u64::from(was_there),
            Err(error) if Deferred::of(&error).is_some_and(|deferred| !deferred.lost) => deferred = true,
            Err(error) => return Err(error),
        }
    }
    Ok((removed, deferred))
}
