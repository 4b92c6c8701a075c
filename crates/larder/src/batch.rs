//! Many keys at once: one pass over the near tier, one round trip for the rest.

use std::{sync::Arc, time::Duration};

use larder_core::{Key, KeyBuf, Result, ToKey};
use larder_memory::AnyValue;

use crate::{
    Cacheable,
    call::Place,
    engine::{NearRead, Written},
    private::{Typed, count_hit, typed},
    stats::Event,
    value::ValueOps,
};

pub(crate) async fn get_many<K: ToKey, V: Cacheable>(
    place: Place<'_>,
    keys: &[K],
    ops: &'static ValueOps,
    tells: bool,
) -> Result<Vec<Option<Arc<V>>>> {
    let engine = &place.cache.engine;
    let mut found: Vec<Option<Arc<V>>> = vec![None; keys.len()];
    if !engine.is_enabled() {
        return Ok(found);
    }
    let now = engine.timer.now();
    let (mut missing, mut left) = (Vec::new(), Vec::new());
    for (index, key) in keys.iter().enumerate() {
        let mut buffer = KeyBuf::new();
        place.render(key, &mut buffer);
        let key = &buffer;
        let near = if place.region.strategy.tiers.uses_near() { engine.near_read(key, now) } else { NearRead::MISS };
        match near.living() {
            Some(entry) => {
                let stale = now >= entry.fresh_until;
                match typed::<V>(entry.value) {
                    Typed::Value(value) => {
                        count_hit(place.region, stale);
                        found[index] = Some(value);
                    }
                    Typed::Absent | Typed::Failed(_) => count_hit(place.region, false),
                    Typed::Other => {
                        place.region.counters.count(Event::WrongType);
                        crate::events::wrong_type(key.as_str(), std::any::type_name::<V>());
                        place.region.counters.count(Event::Miss);
                    }
                }
            }
            None => {
                missing.push(index);
                left.push(key.to_key());
            }
        }
    }
    let answers = engine.read_many(place.region, &left, ops, tells).await;
    if answers.is_err() {
        place.region.counters.add(Event::Miss, missing.len() as u64);
    }
    for (index, answer) in missing.into_iter().zip(answers?) {
        let value = answer.and_then(|outcome| match typed::<V>(outcome.value) {
            Typed::Value(value) => Some(value),
            _ => None,
        });
        place.region.counters.count(if value.is_some() { Event::RemoteHit } else { Event::Miss });
        found[index] = value;
    }
    Ok(found)
}

pub(crate) async fn set_many<K: ToKey, V: Cacheable>(
    place: Place<'_>,
    items: impl IntoIterator<Item = (K, V)>,
    ttl: Option<Duration>,
) -> Result<Written> {
    let engine = &place.cache.engine;
    let ops = ValueOps::of::<V>();
    let items: Vec<(Key, AnyValue)> =
        items.into_iter().map(|(key, value)| (place.key(&key), Arc::new(value) as AnyValue)).collect();
    if !engine.is_enabled() {
        return Ok(Written::default());
    }
    engine.write_many(place.region, &items, ops, ttl).await
}
