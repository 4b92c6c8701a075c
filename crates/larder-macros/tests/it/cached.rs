use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use larder::{Cache, Source, cached};

static CALLS: AtomicU32 = AtomicU32::new(0);

fn counted<T>(calls: &AtomicU32, value: T) -> T {
    calls.fetch_add(1, Ordering::SeqCst);
    value
}

#[cached(ttl = "30s")]
async fn doubled(number: u32) -> u32 {
    counted(&CALLS, number * 2)
}

#[larder::test]
async fn a_cached_function_runs_once_for_each_key() {
    assert_eq!(doubled(5).await, 10);
    assert_eq!(doubled(5).await, 10);
    assert_eq!(doubled(6).await, 12);
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    let info = doubled::cache_info();
    assert_eq!((info.hits(), info.misses(), info.entries), (1, 2, 2));
    assert!(info.name.ends_with("::doubled"));
}

#[cached]
async fn greeting(name: &str, words: &[String]) -> Result<String, Infallible> {
    Ok(format!("{name} {}", words.join(" ")))
}

#[larder::test]
async fn borrowed_arguments_are_part_of_the_key_and_cloned_for_the_load() {
    let words = vec!["a".to_owned()];
    assert_eq!(greeting("hello", &words).await.unwrap(), "hello a");
    assert_eq!(greeting("hello", &[]).await.unwrap(), "hello ");
    assert_eq!(greeting::outcome("hello", &words).await.unwrap().source, Source::Near);
}

#[cached]
async fn shared(id: u8) -> Arc<String> {
    Arc::new(id.to_string())
}

#[larder::test]
async fn an_arc_is_handed_out_without_a_copy() {
    assert!(Arc::ptr_eq(&shared(1).await, &shared(1).await));
}

static FINDS: AtomicU32 = AtomicU32::new(0);

#[cached]
async fn find(id: u8) -> Option<String> {
    counted(&FINDS, (id > 0).then(|| id.to_string()))
}

#[larder::test]
async fn nothing_is_not_cached_unless_asked() {
    assert_eq!(find(0).await, None);
    assert_eq!(find(0).await, None);
    assert_eq!(FINDS.load(Ordering::SeqCst), 2);
    assert_eq!(find(1).await.as_deref(), Some("1"));
    assert_eq!(find(1).await.as_deref(), Some("1"));
    assert_eq!(FINDS.load(Ordering::SeqCst), 3);
}

static FIBS: AtomicU32 = AtomicU32::new(0);

#[cached]
fn fibonacci(n: u64) -> u64 {
    FIBS.fetch_add(1, Ordering::SeqCst);
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

#[larder::test]
async fn a_plain_function_is_cached_near_and_may_call_itself() {
    assert_eq!(fibonacci(50), 12_586_269_025);
    assert_eq!(FIBS.load(Ordering::SeqCst), 51);
    assert_eq!(fibonacci::uncached(1), 1);
}

struct NoSerde(u32);

#[cached(near)]
async fn opaque(id: u32) -> Arc<NoSerde> {
    Arc::new(NoSerde(id))
}

#[larder::test]
async fn the_near_tier_takes_values_without_serde() {
    assert_eq!(opaque(7).await.0, 7);
    assert!(Arc::ptr_eq(&opaque(7).await, &opaque(7).await));
}

#[cached]
async fn size_of_type<T: Send + Sync + 'static>(_seed: u8) -> usize {
    size_of::<T>()
}

#[larder::test]
async fn a_generic_function_keeps_its_types_apart() {
    assert_eq!(size_of_type::<u8>(0).await, 1);
    assert_eq!(size_of_type::<u64>(0).await, 8);
    assert_ne!(size_of_type::cache_key::<u8>(0), size_of_type::cache_key::<u64>(0));
}

mod one {
    #[larder::cached]
    pub(super) async fn name() -> String {
        "one".to_owned()
    }
}

mod two {
    #[larder::cached]
    pub(super) async fn name() -> String {
        "two".to_owned()
    }
}

#[larder::test]
async fn functions_of_one_name_in_two_modules_do_not_collide() {
    assert_eq!(one::name().await, "one");
    assert_eq!(two::name().await, "two");
}

/// Arguments may have names that the expansion or the facade uses.
#[cached]
async fn hygiene(key: u8, cache: u8, tags: u8, miss: u8, value: u8) -> u32 {
    u32::from(key) + u32::from(cache) + u32::from(tags) + u32::from(miss) + u32::from(value)
}

#[larder::test]
async fn argument_names_collide_with_nothing() {
    assert_eq!(hygiene(1, 2, 3, 4, 5).await, 15);
}

#[larder::test]
async fn the_companion_clears_what_the_function_stored(cache: Cache) {
    let map: HashMap<u8, u8> = HashMap::new();
    cache.set("other", map).await;
    doubled(100).await;
    doubled::cache_clear().await.unwrap();
    assert_eq!(doubled::outcome(100).await.source, Source::Loaded);
    assert!(cache.get::<_, HashMap<u8, u8>>("other").await.is_some());
    assert!(doubled::cache_key(100).as_str().ends_with(":100"));
}

/// What its body holds while it waits has no place in the call.
#[cached]
async fn spacious(seed: u8) -> Result<usize, Infallible> {
    let room = [seed; 4096];
    tokio::task::yield_now().await;
    Ok(room.len())
}

#[larder::test]
async fn a_call_is_a_future_of_a_few_words_whatever_its_body_holds() {
    let call = spacious(1);
    assert!(size_of_val(&call) <= 12 * size_of::<usize>(), "{} bytes", size_of_val(&call));
    assert_eq!(call.await.unwrap(), 4096);
}

/// May be sent to another thread, but not shared with one.
#[derive(Clone)]
struct Tally(std::cell::Cell<u32>);

#[cached(key = "tallied:{id}")]
async fn tallied(tally: Tally, id: u32) -> Result<u32, std::fmt::Error> {
    tokio::task::yield_now().await;
    id.checked_add(tally.0.get()).ok_or(std::fmt::Error)
}

#[cached(inline, key = "lent:{name}")]
async fn lent(name: &str, words: &[String]) -> usize {
    tokio::task::yield_now().await;
    name.len() + words.len()
}

#[larder::test]
async fn a_call_may_go_to_another_thread_with_arguments_that_cannot_be_shared_or_are_borrowed() {
    fn sent<T: Send>(call: T) -> T {
        call
    }
    assert_eq!(sent(tallied(Tally(1.into()), 2)).await, Ok(3));
    let (name, words) = ("name".to_owned(), vec!["word".to_owned()]);
    assert_eq!(sent(lent(&name, &words)).await, 5);
}
