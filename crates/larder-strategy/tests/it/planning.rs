use std::time::Duration;

use fastrand::Rng;
use larder_strategy::{EarlyRefresh, Plan, Strategy};
use proptest::{
    prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    strategy::Strategy as Generate,
};

const MINUTE: Duration = Duration::from_secs(60);

fn plain() -> Strategy {
    Strategy::new("plain", MINUTE).jitter(0.0)
}

fn plan(strategy: &Strategy, seed: u64) -> Plan {
    strategy.plan(None, Duration::from_millis(100), &mut Rng::with_seed(seed))
}

#[test]
fn without_jitter_a_plan_is_the_ttl_and_its_stale_window() {
    let plan = plan(&plain().stale_window(MINUTE * 2), 1);
    assert_eq!((plan.ttl, plan.fresh_for, plan.stale_for), (MINUTE, MINUTE, MINUTE * 3));
    assert_eq!(plan.refresh_after, None);
}

#[test]
fn jitter_shortens_within_its_share_and_spreads() {
    let strategy = plain().jitter(0.25);
    let lives: Vec<Duration> = (0..2000).map(|seed| plan(&strategy, seed).fresh_for).collect();
    assert!(lives.iter().all(|life| (MINUTE.mul_f64(0.75)..=MINUTE).contains(life)));
    let mean = lives.iter().sum::<Duration>() / 2000;
    assert!((mean.as_secs_f64() - 52.5).abs() < 0.5, "{mean:?}");
    assert!(*lives.iter().min().unwrap() < MINUTE.mul_f64(0.76));
    assert!(*lives.iter().max().unwrap() > MINUTE.mul_f64(0.99));
}

#[test]
fn the_same_seed_gives_the_same_plan() {
    let strategy = Strategy::database_query();
    assert_eq!(plan(&strategy, 42), plan(&strategy, 42));
    assert_ne!(plan(&strategy, 42), plan(&strategy, 43));
}

#[test]
fn a_share_refreshes_at_that_share_of_the_jittered_ttl() {
    let strategy = plain().jitter(0.3).early_refresh(EarlyRefresh::Share(0.8));
    let plan = plan(&strategy, 3);
    let expected = plan.fresh_for.as_secs_f64() * 0.8;
    assert!((plan.refresh_after.unwrap().as_secs_f64() - expected).abs() < 1e-6);
}

#[test]
fn xfetch_leads_by_cost_times_beta_on_average_with_an_exponential_tail() {
    let strategy = plain().early_refresh(EarlyRefresh::XFetch { beta: 2.0 });
    let mut rng = Rng::with_seed(9);
    let leads: Vec<f64> = (0..20_000)
        .filter_map(|_| strategy.plan(None, Duration::from_millis(100), &mut rng).refresh_after)
        .map(|after| (MINUTE - after).as_secs_f64())
        .collect();
    let count = leads.len() as f64;
    let mean = leads.iter().sum::<f64>() / count;
    assert!((mean - 0.2).abs() < 0.01, "mean {mean}");
    let beyond_two_means = leads.iter().filter(|lead| **lead > 0.4).count() as f64 / count;
    assert!((beyond_two_means - (-2.0_f64).exp()).abs() < 0.02, "tail {beyond_two_means}");
}

#[test]
fn xfetch_never_refreshes_in_the_first_half_however_slow_the_load() {
    let strategy = plain().early_refresh(EarlyRefresh::XFetch { beta: 1.0 });
    let plan = strategy.plan(None, Duration::MAX, &mut Rng::with_seed(1));
    assert_eq!(plan.refresh_after, Some(MINUTE / 2));
}

#[test]
fn a_load_that_cost_nothing_is_not_refreshed_early_by_xfetch() {
    let strategy = plain().early_refresh(EarlyRefresh::XFetch { beta: 1.0 });
    assert_eq!(strategy.plan(None, Duration::ZERO, &mut Rng::with_seed(1)).refresh_after, None);
}

#[test]
fn a_ttl_of_zero_stores_nothing_and_a_nanosecond_does() {
    let strategy = Strategy::api_response().jitter(0.5);
    let mut rng = Rng::with_seed(1);
    assert_eq!(strategy.plan(Some(Duration::ZERO), MINUTE, &mut rng), Plan::NOT_STORED);
    let tiny = strategy.plan(Some(Duration::from_nanos(1)), MINUTE, &mut rng);
    assert!(tiny.is_stored());
    assert_eq!(tiny.fresh_for, Duration::from_nanos(1));
}

#[test]
fn a_ttl_beyond_a_century_is_for_ever() {
    for ttl in [Duration::MAX, Duration::from_secs(101 * 365 * 86_400)] {
        let plan = Strategy::indicator().plan(Some(ttl), MINUTE, &mut Rng::with_seed(1));
        assert!(plan.is_endless());
        assert_eq!((plan.fresh_for, plan.stale_for, plan.refresh_after), (Duration::MAX, Duration::MAX, None));
    }
}

#[test]
fn an_endless_stale_window_makes_an_entry_that_is_kept_for_ever_but_not_fresh() {
    let plan = plan(&plain().stale_window(Duration::MAX), 1);
    assert_eq!((plan.fresh_for, plan.stale_for), (MINUTE, Duration::MAX));
}

#[test]
fn errors_and_absent_values_are_stored_only_where_the_strategy_says_so_and_never_stale() {
    let mut rng = Rng::with_seed(5);
    let preset = Strategy::api_response();
    assert_eq!(preset.plan_negative(&mut rng), Plan::NOT_STORED);
    assert_eq!(preset.plan_none(&mut rng), Plan::NOT_STORED);
    let strategy = preset.jitter(0.0).negative_ttl(Some(MINUTE / 6)).cache_none(Some(MINUTE / 2));
    let negative = strategy.plan_negative(&mut rng);
    assert_eq!((negative.fresh_for, negative.stale_for), (MINUTE / 6, MINUTE / 6));
    assert_eq!(strategy.plan_none(&mut rng).stale_for, MINUTE / 2);
}

#[test]
fn the_near_tier_keeps_an_entry_no_longer_than_its_cap() {
    let strategy = plain().near_ttl(Some(MINUTE / 4));
    assert_eq!(strategy.near_life(MINUTE), MINUTE / 4);
    assert_eq!(strategy.near_life(MINUTE / 60), MINUTE / 60);
    assert_eq!(plain().near_life(MINUTE), MINUTE);
}

#[test]
fn every_preset_is_valid_and_can_be_a_constant() {
    const SESSION: Strategy = Strategy::session();
    for preset in larder_strategy::presets::all() {
        preset.validate().unwrap();
    }
    let plan = plan(&SESSION, 1);
    assert_eq!((plan.fresh_for, plan.stale_for), (MINUTE * 30, MINUTE * 30));
    assert_eq!((SESSION.jitter, SESSION.fail_safe), (0.0, None));
}

fn any_duration() -> impl Generate<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0..u64::MAX, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        (0..10_000_000_000_u64).prop_map(Duration::from_nanos),
    ]
}

fn any_early() -> impl Generate<Value = EarlyRefresh> {
    prop_oneof![
        Just(EarlyRefresh::Off),
        any::<f64>().prop_map(EarlyRefresh::Share),
        any::<f64>().prop_map(|beta| EarlyRefresh::XFetch { beta }),
    ]
}

proptest! {
    #[test]
    fn no_settings_make_planning_panic_or_break_its_order(
        ttl in any_duration(), window in any_duration(), cost in any_duration(),
        jitter in any::<f64>(), early in any_early(), seed in any::<u64>(),
    ) {
        let strategy = plain().ttl(ttl).stale_window(window).jitter(jitter).early_refresh(early);
        let plan = strategy.plan(None, cost, &mut Rng::with_seed(seed));
        prop_assert_eq!(plan.is_stored(), !ttl.is_zero());
        prop_assert!(plan.is_endless() || plan.ttl <= ttl);
        prop_assert!(plan.fresh_for <= plan.stale_for);
        prop_assert!(plan.refresh_after.is_none_or(|after| after < plan.fresh_for));
    }
}
