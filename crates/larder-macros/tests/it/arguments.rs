//! How arguments reach the key and the loader.

use larder::{Source, cached};

#[cached]
async fn named(name: &'static str) -> usize {
    let kept: &'static str = name;
    kept.len()
}

#[larder::test]
async fn a_static_reference_stays_one() {
    assert_eq!(named("abc").await, 3);
    assert_eq!(named::outcome("abc").await.source, Source::Near);
}

#[cached]
async fn counted_down(mut from: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while from > 0 {
        numbers.push(from);
        from -= 1;
    }
    numbers
}

#[larder::test]
async fn an_argument_may_be_mutable() {
    assert_eq!(counted_down(3).await, [3, 2, 1]);
    assert_eq!(counted_down(3).await, [3, 2, 1]);
}

#[cached]
async fn joined<'a, 'b>(one: &'a str, other: &'b [u8]) -> String
where
    'a: 'b,
{
    format!("{one}{}", other.len())
}

#[larder::test]
async fn lifetimes_and_bounds_are_kept() {
    assert_eq!(joined("a", &[1, 2]).await, "a2");
}

#[cached(near)]
async fn described<T>(value: T) -> String
where
    T: larder::KeyPart + std::fmt::Display + Clone + Send + Sync + 'static,
{
    format!("<{value}>")
}

#[larder::test]
async fn a_generic_argument_is_part_of_the_key_with_its_type() {
    assert_eq!(described(1_u8).await, "<1>");
    assert_eq!(described("1").await, "<1>");
    assert_ne!(described::cache_key(1_u8), described::cache_key(1_u16));
}

#[derive(Clone, larder::KeyPart)]
struct User {
    id: u32,
    name: String,
}

#[cached(key = "user:{user.id}:{{x}}", tags = ["name:{user.name}"])]
async fn greeting(user: &User) -> String {
    format!("hello {}", user.name)
}

#[larder::test]
async fn a_template_takes_fields_and_escapes_its_own_text(cache: larder::Cache) {
    let user = User { id: 7, name: "Ada".to_owned() };
    assert_eq!(greeting(&user).await, "hello Ada");
    assert!(greeting::cache_key(&user).as_str().ends_with(":user:7:%7Bx%7D"), "{}", greeting::cache_key(&user));
    cache.invalidate().tag("name:Ada").await.unwrap();
    assert_eq!(greeting::outcome(&user).await.source, Source::Loaded);
    greeting::cache_clear().await.unwrap();
    assert_eq!(greeting::outcome(&user).await.source, Source::Loaded);
}

#[cached(key = "all:{{users}}")]
async fn everybody() -> u8 {
    1
}

#[larder::test]
async fn a_template_with_braces_is_cleared() {
    everybody().await;
    assert_eq!(everybody::outcome().await.source, Source::Near);
    everybody::cache_clear().await.unwrap();
    assert_eq!(everybody::outcome().await.source, Source::Loaded);
}

/// The expansion of a function that is not there is not there either.
#[cfg(any())]
#[cached]
async fn absent(missing: NoSuchType) -> NoSuchType {
    missing
}
