use std::time::Duration;

use larder_strategy::{Fit, RECOMMENDATIONS, Strategy, recommend};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_recommendation_is_consistent_and_gives_a_valid_strategy() {
    for recommendation in RECOMMENDATIONS {
        let name = recommendation.name;
        assert!(recommendation.min <= recommendation.typical && recommendation.typical <= recommendation.max, "{name}");
        assert!(recommendation.check(recommendation.ttl()).is_within(), "{name}");
        let strategy = recommendation.strategy();
        strategy.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(strategy.ttl, recommendation.typical, "{name}");
        assert_eq!(strategy.name, name);
        assert_eq!(strategy.region, recommendation.preset.strategy().region, "{name}");
    }
}

#[test]
fn nothing_older_than_the_longest_ttl_of_the_range_is_served() {
    for recommendation in RECOMMENDATIONS {
        let strategy = recommendation.strategy();
        assert!(strategy.ttl.saturating_add(strategy.stale_window) <= recommendation.max, "{}", recommendation.name);
    }
    assert_eq!(recommend::ticker().strategy().stale_window, 15 * SECOND);
    assert_eq!(recommend::static_data().strategy().fail_safe, None);
    assert_eq!(recommend::exchange_info().strategy().stale_window, Strategy::api_response().stale_window);
}

#[test]
fn the_ends_of_a_range_belong_to_it() {
    let ticker = recommend::ticker();
    assert_eq!(ticker.check(5 * SECOND).fit, Fit::Within);
    assert_eq!(ticker.check(30 * SECOND).fit, Fit::Within);
    assert_eq!(ticker.check(31 * SECOND).fit, Fit::TooLong);
    assert_eq!(ticker.check(Duration::ZERO).fit, Fit::TooShort);
    assert_eq!(recommend::unchanging().check(Duration::MAX).fit, Fit::Within);
}

#[test]
fn advice_names_the_data_and_the_limit() {
    let advice = recommend::order_book().check(2 * SECOND).to_string();
    assert_eq!(advice, "2 s is too short for order_book: at least 10 s, to spare the source");
}

#[test]
fn a_recommendation_is_found_by_its_name_however_it_is_written() {
    assert_eq!(recommend::find("Order Book"), Some(&recommend::order_book()));
    assert_eq!(recommend::find("auth-token"), Some(&recommend::auth_token()));
    assert_eq!(recommend::find("weather"), None);
}
