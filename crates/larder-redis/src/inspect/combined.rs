//! The figures of several primaries as those of one store.

use larder_core::ServerFigures;

/// `None` if there are none.
pub(super) fn combined(mut all: Vec<ServerFigures>) -> Option<ServerFigures> {
    let count = u64::try_from(all.len()).ok();
    let mut sum = match all.len() {
        0 => return None,
        1 => all.remove(0),
        _ => sum_of(&all),
    };
    sum.primaries = count;
    Some(sum)
}

fn sum_of(all: &[ServerFigures]) -> ServerFigures {
    type Field<T> = fn(&ServerFigures) -> Option<T>;
    // What one of them does not know is unknown.
    let each = |field: Field<u64>| all.iter().map(field).collect::<Option<Vec<u64>>>();
    let sum = |field| each(field).and_then(|each| each.into_iter().try_fold(0, u64::checked_add));
    let flags = |field: Field<bool>| all.iter().map(field).collect::<Option<Vec<bool>>>();
    let any = |field| flags(field).map(|flags| flags.contains(&true));
    let every = |field| flags(field).map(|flags| !flags.contains(&false));
    let text = |field: fn(&ServerFigures) -> Option<&str>| {
        let mut texts = all.iter().map(field).collect::<Option<Vec<&str>>>()?;
        texts.sort_unstable();
        texts.dedup();
        Some(texts.join(", "))
    };
    let mut figures = ServerFigures::default();
    figures.version = text(|it| it.version.as_deref());
    figures.valkey_version = text(|it| it.valkey_version.as_deref());
    figures.mode = text(|it| it.mode.as_deref());
    figures.role = text(|it| it.role.as_deref());
    figures.eviction_policy = text(|it| it.eviction_policy.as_deref());
    figures.uptime_seconds = each(|it| it.uptime_seconds).and_then(|each| each.into_iter().min());
    figures.fragmentation_percent = each(|it| it.fragmentation_percent).and_then(|each| each.into_iter().max());
    figures.max_bytes = match each(|it| it.max_bytes) {
        Some(limits) if limits.contains(&0) => Some(0),
        _ => sum(|it| it.max_bytes),
    };
    figures.keys = sum(|it| it.keys);
    figures.used_bytes = sum(|it| it.used_bytes);
    figures.evicted = sum(|it| it.evicted);
    figures.expired = sum(|it| it.expired);
    figures.hits = sum(|it| it.hits);
    figures.misses = sum(|it| it.misses);
    figures.clients = sum(|it| it.clients);
    figures.blocked_clients = sum(|it| it.blocked_clients);
    figures.rejected_connections = sum(|it| it.rejected_connections);
    figures.replicas = sum(|it| it.replicas);
    figures.lagging_replicas = sum(|it| it.lagging_replicas);
    figures.keys_without_ttl = sum(|it| it.keys_without_ttl);
    figures.slots_covered = each(|it| it.slots_covered).and_then(|each| each.into_iter().min());
    figures.loading = any(|it| it.loading);
    figures.append_only = any(|it| it.append_only);
    figures.snapshot_ok = every(|it| it.snapshot_ok);
    figures.primary_link_up = every(|it| it.primary_link_up);
    figures.cluster_ok = every(|it| it.cluster_ok);
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(keys: u64, max_bytes: u64, version: &str) -> ServerFigures {
        let mut figures = ServerFigures::default();
        figures.keys = Some(keys);
        figures.max_bytes = Some(max_bytes);
        figures.version = Some(version.to_owned());
        figures.fragmentation_percent = Some(100 + keys);
        figures.slots_covered = Some(keys);
        figures.snapshot_ok = Some(keys != 7);
        figures.run_id = Some(keys.to_string());
        figures
    }

    #[test]
    fn numbers_are_added_and_texts_stand_beside_each_other() {
        let sum =
            combined(vec![primary(5, 100, "7.2.0"), primary(7, 100, "7.0.15"), primary(1, 100, "7.2.0")]).unwrap();
        assert_eq!((sum.keys, sum.max_bytes, sum.primaries), (Some(13), Some(300), Some(3)));
        assert_eq!(sum.version.as_deref(), Some("7.0.15, 7.2.0"));
        assert_eq!((sum.fragmentation_percent, sum.slots_covered), (Some(107), Some(1)));
        assert_eq!((sum.snapshot_ok, sum.run_id), (Some(false), None));
    }

    #[test]
    fn one_without_a_limit_leaves_the_whole_without_one() {
        let sum = combined(vec![primary(1, 0, "7.0.15"), primary(1, 100, "7.0.15")]).unwrap();
        assert_eq!(sum.max_bytes, Some(0));
    }

    #[test]
    fn what_one_does_not_know_is_unknown() {
        let sum = combined(vec![ServerFigures::default(), primary(1, 100, "7.0.15")]).unwrap();
        assert_eq!((sum.keys, sum.max_bytes, sum.version, sum.snapshot_ok), (None, None, None, None));
        assert_eq!(combined(Vec::new()), None);
    }

    #[test]
    fn a_single_primary_speaks_for_itself() {
        let sum = combined(vec![primary(1, 100, "7.0.15")]).unwrap();
        assert_eq!((sum.run_id.as_deref(), sum.primaries), (Some("1"), Some(1)));
    }
}
