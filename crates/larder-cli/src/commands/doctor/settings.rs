//! What the server's settings say.

use larder_core::{ServerFigures, ServerSettings};
use serde_json::Value;

use super::finding::{Finding, Grade};
use crate::sample::Sample;

/// Of the connections that the server takes, the share from which on one should look.
const MANY_CLIENTS_PERCENT: u64 = 80;
/// What Redis has by itself; a slower sweep leaves dead entries in memory.
const LEAST_HZ: u64 = 10;

/// A value's grade, and what to do about it.
type Verdict = (Grade, &'static str);

const FINE: Verdict = (Grade::Ok, "");

/// The limit, its policy and the append-only file are among the figures, which more users may see.
pub(super) fn judged(settings: &ServerSettings, figures: &ServerFigures, sample: Option<&Sample>) -> Vec<Finding> {
    if settings.iter().next().is_none() {
        return vec![Finding::ok("settings", "unknown: the server does not let this user see them".to_owned())];
    }
    vec![
        judge(settings, "save", save),
        max_clients(settings, figures),
        judge(settings, "timeout", timeout),
        judge(settings, "tcp-keepalive", keepalive),
        lazy_free(settings, sample),
        judge(settings, "hz", hz),
        judge(settings, "notify-keyspace-events", events),
    ]
}

/// The values that servers have, by name.
pub(super) fn document(settings: &ServerSettings) -> Value {
    settings.iter().map(|(name, values)| (name.to_owned(), values.collect::<Value>())).collect()
}

/// The worst of the values that servers have, all of which are shown.
fn judge(settings: &ServerSettings, name: &'static str, verdict: fn(&str) -> Verdict) -> Finding {
    let shown = |value: &str| if value.is_empty() { "off".to_owned() } else { value.to_owned() };
    let values: Vec<_> = settings.values(name).map(shown).collect();
    let Some((grade, todo)) = settings.values(name).map(verdict).max_by_key(|(grade, _)| *grade) else {
        return Finding::unknown(name);
    };
    if values.len() > 1 && grade == Grade::Ok {
        return Finding::new(name, values.join(" and "), Grade::Advice, "set the same on all nodes");
    }
    Finding::new(name, values.join(" and "), grade, todo)
}

fn save(schedule: &str) -> Verdict {
    if schedule.is_empty() {
        return FINE;
    }
    (Grade::Advice, "set save \"\": a snapshot costs a fork and up to twice the memory, for what can be loaded again")
}

fn timeout(seconds: &str) -> Verdict {
    if seconds == "0" {
        return FINE;
    }
    (Grade::Advice, "set timeout 0: the server closes sockets that clients keep for later; keepalive finds dead ones")
}

fn keepalive(seconds: &str) -> Verdict {
    if seconds != "0" {
        return FINE;
    }
    (Grade::Advice, "set tcp-keepalive 300: connections of clients that have vanished stay open for ever")
}

fn hz(rate: &str) -> Verdict {
    if rate.parse::<u64>().is_ok_and(|rate| rate < LEAST_HZ) {
        return (Grade::Advice, "set hz 10: dead entries are swept out more slowly than that");
    }
    FINE
}

fn events(classes: &str) -> Verdict {
    if classes.is_empty() {
        return FINE;
    }
    (Grade::Advice, "set notify-keyspace-events \"\", unless another program listens: each change is published")
}

fn max_clients(settings: &ServerSettings, figures: &ServerFigures) -> Finding {
    let name = "maxclients";
    let least = settings.values(name).filter_map(|value| value.parse::<u64>().ok()).min();
    let Some(least) = least else { return Finding::unknown(name) };
    let Some(clients) = figures.clients else { return Finding::ok(name, least.to_string()) };
    let most = least.saturating_mul(figures.primaries.unwrap_or(1));
    let found = format!("{least}, {clients} connections");
    if clients.saturating_mul(100) < most.saturating_mul(MANY_CLIENTS_PERCENT) {
        return Finding::ok(name, found);
    }
    let todo = "raise maxclients, or find who opens so many: at the limit new connections are refused";
    Finding::new(name, found, Grade::Warning, todo)
}

/// A string is freed at once in any case; it is large collections that block the server.
fn lazy_free(settings: &ServerSettings, sample: Option<&Sample>) -> Finding {
    let name = "lazyfree";
    let eager: Vec<_> = ["lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del"]
        .into_iter()
        .filter(|setting| settings.values(setting).any(|value| value == "no"))
        .collect();
    if eager.is_empty() {
        return Finding::ok(name, "yes".to_owned());
    }
    let found = format!("no: {}", eager.join(", "));
    let has_collections = sample.is_some_and(|sample| sample.by_kind().keys().any(|kind| *kind != "string"));
    if has_collections {
        let todo = "set them to yes: there are collections, and to free a large one blocks the server";
        return Finding::new(name, found, Grade::Advice, todo);
    }
    Finding::ok(name, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> ServerSettings {
        let mut settings = ServerSettings::default();
        pairs.iter().for_each(|(name, value)| settings.insert(*name, *value));
        settings
    }

    #[test]
    fn settings_of_a_database_are_advice_for_a_cache() {
        let wrong = [
            ("save", "3600 1 300 100"),
            ("timeout", "30"),
            ("tcp-keepalive", "0"),
            ("hz", "1"),
            ("notify-keyspace-events", "KEA"),
        ];
        let right =
            [("save", ""), ("timeout", "0"), ("tcp-keepalive", "300"), ("hz", "10"), ("notify-keyspace-events", "")];
        for (pairs, grade) in [(wrong, Grade::Advice), (right, Grade::Ok)] {
            let findings = judged(&settings(&pairs), &ServerFigures::default(), None);
            for (name, _) in pairs {
                let finding = findings.iter().find(|finding| finding.check == name).unwrap();
                assert_eq!(finding.grade, grade, "{finding:?}");
            }
        }
    }

    #[test]
    fn nodes_that_differ_are_told_of_and_the_worst_counts() {
        let finding = judge(&settings(&[("hz", "10"), ("hz", "20")]), "hz", hz);
        assert_eq!((finding.grade, finding.found.as_str()), (Grade::Advice, "10 and 20"));
        let finding = judge(&settings(&[("save", ""), ("save", "60 1")]), "save", save);
        assert_eq!((finding.found.as_str(), finding.todo.is_empty()), ("off and 60 1", false));
    }

    #[test]
    fn a_server_that_is_nearly_full_of_clients_is_not_fit() {
        let mut figures = ServerFigures::default();
        (figures.clients, figures.primaries) = (Some(80), Some(1));
        assert_eq!(max_clients(&settings(&[("maxclients", "100")]), &figures).grade, Grade::Warning);
        figures.primaries = Some(3);
        assert_eq!(max_clients(&settings(&[("maxclients", "100")]), &figures).grade, Grade::Ok);
    }

    #[test]
    fn what_a_server_hides_is_not_held_against_it() {
        let findings = judged(&ServerSettings::default(), &ServerFigures::default(), None);
        assert_eq!(findings.iter().map(|finding| finding.grade).collect::<Vec<_>>(), [Grade::Ok]);
    }
}
