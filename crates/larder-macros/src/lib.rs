//! The macros of [`larder`](https://docs.rs/larder), which re-exports them: use them from there.

mod cached;
mod duration;
mod errors;
mod facade;
mod key;
mod key_part;
mod template;
mod test;

use proc_macro::TokenStream;

/// Caches what a function returns.
///
/// On an `async fn` in both tiers, with one load per key however many callers wait; on a plain `fn` in the near tier.
/// Functions may return `T`, `Option<T>` or `Result<T, E>`, each with `Arc<T>` in place of `T`: an `Arc` is handed out
/// as it is, a `T` is cloned. `None` is not cached unless `cache_none` says for how long, an error not unless
/// `negative_ttl` does. The kind is told by the type's name: an alias such as `io::Result<T>` is a `Result`, and one that
/// is not called so is a value.
///
/// It stands on free functions and on methods that take `&self`, not on those of a trait.
///
/// ```
/// # use larder::cached;
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)] struct Ticker { price: f64 }
/// # #[derive(Clone, Debug)] struct Down;
/// #[cached(strategy = api_response, ttl = "30s", key = "ticker:{symbol}", tags = ["symbol:{symbol}"])]
/// async fn ticker(symbol: &str) -> Result<Ticker, Down> {
///     Ok(Ticker { price: symbol.len() as f64 })
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// ticker("BTCUSDT").await.unwrap(); // loads
/// ticker("BTCUSDT").await.unwrap(); // does not
/// assert_eq!(ticker::cache_info().hits(), 1);
/// ticker::cache_clear().await.unwrap();
/// # }
/// ```
///
/// # Key
/// Without `key` or `key_fn`: module, function, signature, generic parameters, then every argument. An argument that has no
/// [`KeyPart`](derive@KeyPart) must be left out with `skip(name)`; so must `self`, where it is not part of the key.
/// With `key` or `key_fn` the key is what they say and nothing else: two functions of one region that make the same key
/// share its entry.
///
/// # Options
/// | option | meaning |
/// |---|---|
/// | `strategy = path` | a preset (`api_response`, `database_query`, `indicator`, `session`), a function that returns a `Strategy`, or a constant |
/// | `ttl = "30s"` | how long a value is fresh: `ms`, `s`, `m`, `h`, `d`, or an expression of type `Duration` |
/// | `stale = "10s"` | how long it is served stale afterwards, while it is refreshed |
/// | `jitter = 0.1` | by which share the TTL is shortened at random, at most 0.5 |
/// | `key = "user:{id}"` | the key; `{argument}`, `{argument.field}` and `{self.field}` are escaped parts |
/// | `key_fn = path` | a function of references to the arguments that returns the key |
/// | `skip(db, self)` | leaves arguments out of the key |
/// | `region = "api:binance"` | what the key stands below; the strategy's region without it |
/// | `tags = ["symbol:{symbol}"]` | what entries are invalidated together by |
/// | `condition = \|value\| ..` | a value that does not meet it is returned and not stored |
/// | `cache_none = "10s"` | how long `None` is cached; without a time as long as a value |
/// | `negative_ttl = "5s"` | how long an error is remembered, in the near tier |
/// | `hard_timeout = "2s"` | how long a caller waits; the error type needs `From<larder::LoadFault>` |
/// | `version = 2` | a change makes all stored entries misses |
/// | `near` | near tier only: the value needs no serde |
/// | `inline` | the caller runs the function itself: arguments are borrowed and need not be cloned |
/// | `batch` | the function takes a slice of keys and returns a map: see below |
/// | `cache = expr` | the cache to use, a `&Cache`; else the scoped, the global or the default one |
/// | `companion = name` | the companion's name |
/// | `crate = path` | where the `larder` crate is |
///
/// # Batches
/// With `batch` the function takes a slice of keys and returns `HashMap<K, V>` or `Result<HashMap<K, V>, E>`. Each value is
/// cached under a key of its own; the function is called once for those that are missing and that nobody else is loading.
/// In `key` and `tags` the name of the slice stands for one of its keys. A key that the map leaves out has no value, which
/// `cache_none` remembers. If one key fails, so does the call.
///
/// ```
/// # use std::collections::HashMap;
/// # use larder::cached;
/// #[cached(batch, key = "price:{symbols}", tags = ["symbol:{symbols}"])]
/// async fn prices(symbols: &[String]) -> HashMap<String, u64> {
///     symbols.iter().map(|symbol| (symbol.clone(), symbol.len() as u64)).collect()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// prices(&["BTC".to_owned()]).await; // loads one
/// assert_eq!(prices(&["BTC".to_owned(), "USDT".to_owned()]).await["USDT"], 4); // loads the other
/// assert_eq!(prices::cache_info().stats.loads, 2);
/// # }
/// ```
///
/// # Companion
/// A function `f` gets a type of its own name with `f::cache_info()`, `f::cache_clear().await`, `f::cache_key(..)`,
/// `f::outcome(..).await` (the value with its provenance) and `f::uncached(..)`. A method gets `NAME_cache_info`,
/// `NAME_cache_clear`, `NAME_cache_key`, `NAME_outcome` and `NAME_uncached` beside it if `companion = NAME` is given.
///
/// # Errors that callers share
/// Each caller gets an error of its own: a clone where the type is `Clone`, else one made by `From<larder::SharedError>`
/// (which `anyhow::Error` and `Box<dyn Error + Send + Sync>` have); where there is neither, one caller gets it and the others
/// load anew, once together and then each by itself, so that none waits for more than two loads. A load that times out or asks for its own key is
/// told through `From<larder::LoadFault>`; without that there is no time-out, the function runs uncached, and a panic
/// goes on in the callers.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    cached::expand(options.into(), &item.into()).into()
}

/// Makes a type usable as part of a key: each field is a part, an enum's variant too. `#[key(skip)]` leaves a field out.
///
/// ```
/// # use larder::{Key, KeyPart};
/// #[derive(KeyPart)]
/// struct Symbol(String);
///
/// assert_eq!(Key::new(&(Symbol("BTC".into()), 1)).as_str(), "BTC:1");
/// ```
#[proc_macro_derive(KeyPart, attributes(key))]
pub fn derive_key_part(item: TokenStream) -> TokenStream {
    key_part::expand(item.into()).into()
}

/// Makes a key from a template: `:` separates in the template and is escaped in what is put in.
///
/// ```
/// # use larder::{Key, key};
/// let (id, name) = (7, "a:b");
/// assert_eq!(Key::new(&key!("user:{id}:{name}")).as_str(), "user:7:a%3Ab");
/// assert_eq!(Key::new(&key!("user:{}", id + 1)).as_str(), "user:8");
/// ```
#[proc_macro]
pub fn key(input: TokenStream) -> TokenStream {
    key::expand(input.into()).into()
}

/// Runs an `async fn` as a test with a cache and a clock of its own, so that tests run side by side and wait for nothing.
/// The function may take the `Cache`, the `ManualClock`, or both.
///
/// ```no_run
/// # use std::time::Duration;
/// # use larder::{Cache, ManualClock};
/// #[larder::test]
/// async fn a_value_expires(cache: Cache, clock: ManualClock) {
///     cache.set("k", 1).ttl(Duration::from_secs(10)).await;
///     clock.advance(Duration::from_secs(11));
///     assert_eq!(cache.get::<_, i32>("k").await, None);
/// }
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(&options.into(), &item.into()).into()
}
