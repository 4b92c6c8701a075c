use std::time::Duration;

use larder::{ManualClock, Source, cached};

#[cached(ttl = "10s", jitter = 0.0)]
async fn squared(number: u64) -> u64 {
    number * number
}

#[larder::test]
async fn a_square_is_computed_again_after_ten_seconds(clock: ManualClock) {
    assert_eq!(squared::outcome(7).await.source, Source::Loaded);
    assert_eq!(squared::outcome(7).await.source, Source::Near);
    clock.advance(Duration::from_secs(10));
    assert_eq!(squared::outcome(7).await.source, Source::Loaded);
}
