use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use larder::{Cache, ManualClock, Source, Strategy, cached};

#[cached(strategy = api_response, ttl = "30s", key = "ticker:{symbol}", tags = ["symbol:{symbol}"])]
async fn ticker(symbol: &str) -> Result<usize, String> {
    Ok(symbol.len())
}

#[larder::test]
async fn a_key_template_stands_in_the_strategys_region(cache: Cache) {
    ticker("BTC:USDT").await.unwrap();
    assert_eq!(ticker::cache_key("BTC:USDT").as_str(), "larder:api:ticker:BTC%3AUSDT");
    assert_eq!(cache.keys("api:ticker:*", 10).await.unwrap().len(), 1);
}

#[larder::test]
async fn a_tag_invalidates_what_carries_it(cache: Cache) {
    ticker("BTC").await.unwrap();
    ticker("ETH").await.unwrap();
    cache.invalidate().tag("symbol:BTC").await.unwrap();
    assert_eq!(ticker::outcome("BTC").await.unwrap().source, Source::Loaded);
    assert_eq!(ticker::outcome("ETH").await.unwrap().source, Source::Near);
    cache.invalidate().symbol("ETH").await.unwrap();
    assert_eq!(ticker::outcome("ETH").await.unwrap().source, Source::Loaded);
}

static SLOW: AtomicU32 = AtomicU32::new(0);

#[cached(ttl = "10s", stale = "10s", jitter = 0.0)]
async fn moving() -> u32 {
    SLOW.fetch_add(1, Ordering::SeqCst)
}

#[larder::test]
async fn a_stale_value_is_served_while_it_is_refreshed(clock: ManualClock) {
    assert_eq!(moving().await, 0);
    clock.advance(Duration::from_secs(11));
    let stale = moving::outcome().await;
    assert!(stale.stale);
    assert_eq!(stale.value, 0);
    clock.settle().await;
    assert_eq!(moving().await, 1);
    clock.advance(Duration::from_secs(21));
    assert_eq!(moving::outcome().await.source, Source::Loaded);
}

fn key_of(symbol: &str, interval: &u32) -> String {
    format!("candles:{symbol}:{interval}")
}

#[cached(key_fn = key_of, region = "db:market", ttl = Duration::from_secs(5))]
async fn candles(symbol: &str, interval: u32) -> u32 {
    u32::try_from(symbol.len()).expect("a short text") + interval
}

#[larder::test]
async fn a_key_function_makes_the_key() {
    assert_eq!(candles("BTC", 60).await, 63);
    assert_eq!(candles::cache_key("BTC", 60).as_str(), "larder:db:market:candles:BTC:60");
}

static TRADES: AtomicU32 = AtomicU32::new(0);

#[cached(condition = |trades| !trades.is_empty())]
async fn trades(count: usize) -> Vec<u8> {
    TRADES.fetch_add(1, Ordering::SeqCst);
    vec![0; count]
}

#[larder::test]
async fn a_value_that_does_not_meet_the_condition_is_not_stored() {
    assert!(trades(0).await.is_empty());
    assert!(trades(0).await.is_empty());
    assert_eq!(TRADES.load(Ordering::SeqCst), 2);
    trades(1).await;
    trades(1).await;
    assert_eq!(TRADES.load(Ordering::SeqCst), 3);
}

static NOBODY: AtomicU32 = AtomicU32::new(0);

#[cached(cache_none = "10s", jitter = 0.0)]
async fn nobody() -> Option<u8> {
    NOBODY.fetch_add(1, Ordering::SeqCst);
    None
}

#[larder::test]
async fn nothing_is_cached_for_as_long_as_asked(clock: ManualClock) {
    nobody().await;
    nobody().await;
    assert_eq!(NOBODY.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(11));
    nobody().await;
    assert_eq!(NOBODY.load(Ordering::SeqCst), 2);
}

static LONE: AtomicU32 = AtomicU32::new(0);

#[cached(cache_none, ttl = "10s", jitter = 0.0)]
async fn lone() -> Option<u8> {
    LONE.fetch_add(1, Ordering::SeqCst);
    None
}

#[larder::test]
async fn nothing_is_cached_as_long_as_a_value_if_no_other_time_is_said(clock: ManualClock) {
    lone().await;
    clock.advance(Duration::from_secs(9));
    lone().await;
    assert_eq!(LONE.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(2));
    lone().await;
    assert_eq!(LONE.load(Ordering::SeqCst), 2);
}

fn large(number: &u32) -> bool {
    *number > 2
}

#[cached(condition = large)]
async fn measured(number: u32) -> Result<Option<u32>, String> {
    Ok(Some(number))
}

#[larder::test]
async fn a_condition_may_be_a_function() {
    measured(2).await.unwrap();
    assert_eq!(measured::outcome(2).await.unwrap().source, Source::Loaded);
    measured(3).await.unwrap();
    assert_eq!(measured::outcome(3).await.unwrap().source, Source::Near);
}

#[cached(region = "shop:prices")]
async fn price(id: u32) -> u32 {
    id
}

#[larder::test]
async fn a_region_stands_before_the_key_and_is_invalidated_as_one(cache: Cache) {
    price(1).await;
    assert!(price::cache_key(1).as_str().starts_with("larder:shop:prices:"), "{}", price::cache_key(1));
    cache.invalidate().region("shop:prices").await.unwrap();
    assert_eq!(price::outcome(1).await.source, Source::Loaded);
}

struct Database;

#[cached(skip(db))]
async fn row(db: &DatabaseHandle, id: u32) -> String {
    let _ = &db.0;
    id.to_string()
}

#[derive(Clone)]
struct DatabaseHandle(std::sync::Arc<Database>);

#[larder::test]
async fn a_skipped_argument_needs_no_key() {
    let db = DatabaseHandle(std::sync::Arc::new(Database));
    assert_eq!(row(&db, 1).await, "1");
    assert_eq!(row::outcome(&db, 1).await.source, Source::Near);
}

#[cached(inline, skip(suffix))]
async fn borrowed(prefix: &str, suffix: &mut_free::Text) -> String {
    format!("{prefix}{}", suffix.0)
}

mod mut_free {
    /// Neither `Clone` nor `'static` is needed inline.
    pub(super) struct Text(pub(super) String);
}

#[larder::test]
async fn an_inline_function_borrows_its_arguments() {
    let suffix = mut_free::Text("!".to_owned());
    assert_eq!(borrowed("hi", &suffix).await, "hi!");
    assert_eq!(borrowed::outcome("hi", &suffix).await.source, Source::Near);
}

const BRIEF: Strategy = Strategy::new("brief", Duration::from_secs(1)).jitter(0.0);

fn longer() -> Strategy {
    BRIEF.ttl(Duration::from_secs(100))
}

#[cached(strategy = BRIEF)]
async fn by_constant() -> u8 {
    1
}

#[cached(strategy = longer, version = 3)]
async fn by_function() -> u8 {
    2
}

#[larder::test]
async fn a_strategy_is_a_constant_or_a_function(clock: ManualClock) {
    by_constant().await;
    by_function().await;
    clock.advance(Duration::from_secs(2));
    assert_eq!(by_constant::outcome().await.source, Source::Loaded);
    assert_eq!(by_function::outcome().await.source, Source::Near);
}

static OWN: std::sync::LazyLock<Cache> = std::sync::LazyLock::new(Cache::in_memory);

#[cached(cache = &OWN, companion = explicit_cache)]
async fn explicit(id: u8) -> u8 {
    id
}

#[larder::test]
async fn a_function_may_name_its_cache(cache: Cache) {
    explicit(1).await;
    explicit(1).await;
    assert_eq!(explicit_cache::cache_info().hits(), 1);
    assert_eq!(cache.stats().requests(), 0);
}
