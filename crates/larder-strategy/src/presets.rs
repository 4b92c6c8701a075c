//! The four strategies that most services need, as functions that can be named by path: `strategy = api_response`.

use std::time::Duration;

use crate::{EarlyRefresh, FailSafe, Strategy};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Answers of other services' APIs: fresh for 60 s, stale for a minute more, refreshed from 80% of the TTL on, so that a
/// busy key costs one request per minute, and none of them is waited for.
pub const fn api_response() -> Strategy {
    Strategy::in_region("api_response", "api", MINUTE)
        .stale_window(MINUTE)
        .early_refresh(EarlyRefresh::Share(0.8))
        .fail_safe(Some(FailSafe::new(MINUTE)))
}

/// Results of database queries: fresh for 5 min, stale for 5 min more, refreshed the earlier the longer the query takes.
pub const fn database_query() -> Strategy {
    Strategy::in_region("database_query", "db", Duration::from_secs(300))
        .stale_window(Duration::from_secs(300))
        .early_refresh(EarlyRefresh::XFetch { beta: 1.0 })
        .fail_safe(Some(FailSafe::new(Duration::from_secs(300))))
}

/// Expensive computations on data that moves slowly: fresh for 1 h, stale for half an hour more.
pub const fn indicator() -> Strategy {
    Strategy::in_region("indicator", "indicator", HOUR)
        .stale_window(Duration::from_secs(1800))
        .early_refresh(EarlyRefresh::XFetch { beta: 1.0 })
        .fail_safe(Some(FailSafe::new(Duration::from_secs(1800))))
}

/// Session data: 30 min to the second, never stale and never in place of an error, since a session served after its
/// logout is a hole. For the same reason the near tier keeps it for 10 s at most, and so does an outage.
pub const fn session() -> Strategy {
    let brief = Duration::from_secs(10);
    Strategy::in_region("session", "session", Duration::from_secs(1800))
        .jitter(0.0)
        .near_ttl(Some(brief))
        .outage_ttl(brief)
}

/// Every preset, in the order of the table in the crate's documentation.
pub fn all() -> [Strategy; 4] {
    [api_response(), database_query(), indicator(), session()]
}

impl Strategy {
    /// The preset for other services' answers, see [`api_response`].
    pub const fn api_response() -> Self {
        api_response()
    }

    /// The preset for database queries, see [`database_query`].
    pub const fn database_query() -> Self {
        database_query()
    }

    /// The preset for expensive computations, see [`indicator`].
    pub const fn indicator() -> Self {
        indicator()
    }

    /// The preset for session data, see [`session`].
    pub const fn session() -> Self {
        session()
    }
}
