use std::time::Duration;

use larder_core::ErrorKind;
use larder_strategy::{EarlyRefresh, FailSafe, Lease, Strategy, Tiers};

const SECOND: Duration = Duration::from_secs(1);

fn refused(strategy: &Strategy) -> String {
    let error = strategy.validate().expect_err("a wrong setting must be refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.message().to_owned()
}

#[test]
fn the_default_strategy_is_valid() {
    Strategy::default().validate().unwrap();
    Strategy::new("endless", Duration::MAX).validate().unwrap();
}

#[test]
fn each_wrong_setting_is_refused_by_its_name() {
    let base = Strategy::api_response;
    for (field, strategy) in [
        ("name", base().name(" ")),
        ("region", base().region("")),
        ("ttl", base().ttl(Duration::ZERO)),
        ("jitter", base().jitter(0.6)),
        ("jitter", base().jitter(-0.1)),
        ("jitter", base().jitter(f64::NAN)),
        ("early_refresh", base().early_refresh(EarlyRefresh::Share(1.0))),
        ("early_refresh", base().early_refresh(EarlyRefresh::Share(f64::NAN))),
        ("early_refresh", base().early_refresh(EarlyRefresh::XFetch { beta: 0.0 })),
        ("early_refresh", base().early_refresh(EarlyRefresh::XFetch { beta: f64::INFINITY })),
        ("fail_safe.max_stale", base().fail_safe(Some(FailSafe::new(SECOND * 61)))),
        ("fail_safe.max_stale", base().fail_safe(Some(FailSafe::new(Duration::ZERO)))),
        ("negative_ttl", base().negative_ttl(Some(Duration::ZERO))),
        ("cache_none", base().cache_none(Some(Duration::ZERO))),
        ("near_ttl", base().near_ttl(Some(Duration::ZERO))),
        ("near_ttl", base().near_ttl(Some(SECOND)).tiers(Tiers::Remote)),
        ("remote_deadline", base().remote_deadline(Duration::ZERO)),
        ("hard_timeout", base().hard_timeout(Duration::ZERO)),
        ("soft_timeout", base().soft_timeout(Some(SECOND * 31))),
        ("max_load", base().max_load(SECOND * 29)),
        ("lease", base().lease(Lease::Wait { bound: Duration::ZERO })),
    ] {
        let message = refused(&strategy);
        assert!(message.starts_with(&format!("`{field}`")), "{field}: {message}");
    }
}

#[test]
fn a_refusal_says_what_would_be_right() {
    let strategy = Strategy::session().fail_safe(Some(FailSafe::new(SECOND * 90)));
    assert_eq!(
        refused(&strategy),
        "`fail_safe.max_stale`: is 1 min 30 s, but entries are kept only for the `stale_window` of 0 s after their TTL; \
         widen that window or lower this one"
    );
}

#[test]
fn a_strategy_without_a_remote_tier_needs_no_deadline_for_it() {
    Strategy::api_response().tiers(Tiers::Near).remote_deadline(Duration::ZERO).validate().unwrap();
}
