use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use larder::{Cache, KeyPart, Source, cached};

#[derive(Clone, Default)]
struct Client {
    calls: Arc<AtomicU32>,
    region: &'static str,
}

impl Client {
    #[cached(ttl = "1m", skip(self), companion = user)]
    async fn user(&self, id: u32) -> Result<String, String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(format!("user {id}"))
    }

    #[cached(key = "price:{self.region}:{symbol}")]
    async fn price(&self, symbol: &str) -> u32 {
        self.calls.fetch_add(1, Ordering::SeqCst);
        u32::try_from(symbol.len() + self.region.len()).expect("short texts")
    }
}

#[larder::test]
async fn a_method_is_cached_by_its_arguments() {
    let client = Client::default();
    assert_eq!(client.user(7).await.unwrap(), "user 7");
    assert_eq!(client.clone().user(7).await.unwrap(), "user 7");
    assert_eq!(client.calls.load(Ordering::SeqCst), 1);
    assert_eq!(Client::user_cache_info().hits(), 1);
    Client::user_cache_clear().await.unwrap();
    client.user(7).await.unwrap();
    assert_eq!(client.calls.load(Ordering::SeqCst), 2);
}

#[larder::test]
async fn a_methods_companion_takes_its_arguments() {
    let client = Client::default();
    assert_eq!(client.user_outcome(7).await.unwrap().source, Source::Loaded);
    assert_eq!(client.user_outcome(7).await.unwrap().source, Source::Near);
    assert_eq!(client.user_uncached(7).await.unwrap(), "user 7");
    assert_eq!(client.calls.load(Ordering::SeqCst), 2);
    assert!(client.user_cache_key(7).as_str().ends_with(":7"));
    assert!(Client::user_cache_info().name.ends_with("::Client::user"), "{}", Client::user_cache_info().name);
}

#[derive(Clone)]
struct Holder {
    cache: Cache,
}

impl Holder {
    #[cached(cache = &self.cache, skip(self))]
    async fn held(&self, id: u8) -> u8 {
        id
    }
}

#[larder::test]
async fn an_object_may_bring_its_cache(current: Cache) {
    let holder = Holder { cache: Cache::in_memory() };
    holder.held(1).await;
    holder.held(1).await;
    assert_eq!(holder.cache.stats().requests(), 2);
    assert_eq!(current.stats().requests(), 0);
}

#[derive(Clone)]
struct Sums;

impl Sums {
    #[cached(skip(self), companion = sum)]
    fn sum(&self, numbers: &[u32]) -> u32 {
        numbers.iter().sum()
    }
}

#[larder::test]
async fn a_plain_method_is_cached_too() {
    assert_eq!(Sums.sum(&[1, 2]), 3);
    assert_eq!(Sums.sum_outcome(&[1, 2]).source, Source::Near);
    assert_eq!(Sums.sum_outcome(&[1, 3]).source, Source::Loaded);
}

#[larder::test]
async fn a_field_of_the_object_may_be_part_of_the_key() {
    let (eu, asia) = (Client { region: "eu", ..Client::default() }, Client { region: "asia", ..Client::default() });
    assert_eq!(eu.price("BTC").await, 5);
    assert_eq!(asia.price("BTC").await, 7);
    assert_eq!(eu.price("BTC").await, 5);
    assert_eq!(eu.calls.load(Ordering::SeqCst), 1);
}

#[derive(Clone, KeyPart)]
struct Account(u32);

impl Account {
    #[cached]
    async fn balance(&self, currency: &str) -> String {
        format!("{} {currency}", self.0)
    }
}

#[larder::test]
async fn an_object_that_has_a_key_is_part_of_it() {
    assert_eq!(Account(1).balance("EUR").await, "1 EUR");
    assert_eq!(Account(2).balance("EUR").await, "2 EUR");
}
