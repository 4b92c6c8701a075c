//! Every kind of return type, and what of it is cached.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use larder::{Source, cached};

fn count(calls: &AtomicU32) -> u32 {
    calls.fetch_add(1, Ordering::SeqCst) + 1
}

static FALLIBLE: AtomicU32 = AtomicU32::new(0);

/// 0: an error, 1: nothing, else a value.
#[cached]
async fn fallible(id: u8) -> Result<Option<String>, String> {
    count(&FALLIBLE);
    match id {
        0 => Err("no".to_owned()),
        1 => Ok(None),
        id => Ok(Some(id.to_string())),
    }
}

#[larder::test]
async fn of_a_result_of_an_option_only_values_are_cached() {
    for _ in 0..2 {
        assert_eq!(fallible(0).await, Err("no".to_owned()));
        assert_eq!(fallible(1).await, Ok(None));
        assert_eq!(fallible(2).await, Ok(Some("2".to_owned())));
    }
    assert_eq!(FALLIBLE.load(Ordering::SeqCst), 5);
}

#[cached]
async fn perhaps_shared(id: u8) -> Option<Arc<String>> {
    (id > 0).then(|| Arc::new(id.to_string()))
}

#[larder::test]
async fn an_arc_in_an_option_is_handed_out_without_a_copy() {
    assert_eq!(perhaps_shared(0).await, None);
    let (first, second) = (perhaps_shared(1).await.unwrap(), perhaps_shared(1).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
}

#[cached]
async fn fallible_shared(id: u8) -> Result<Arc<String>, String> {
    if id == 0 { Err("no".to_owned()) } else { Ok(Arc::new(id.to_string())) }
}

#[larder::test]
async fn an_arc_in_a_result_is_handed_out_without_a_copy() {
    fallible_shared(0).await.unwrap_err();
    let (first, second) = (fallible_shared(1).await.unwrap(), fallible_shared(1).await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
}

#[cached]
async fn fallible_perhaps_shared(id: u8) -> Result<Option<Arc<String>>, String> {
    Ok((id > 0).then(|| Arc::new(id.to_string())))
}

#[larder::test]
async fn all_three_go_together() {
    assert_eq!(fallible_perhaps_shared(0).await, Ok(None));
    let first = fallible_perhaps_shared(1).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &fallible_perhaps_shared(1).await.unwrap().unwrap()));
}

#[cached]
async fn read(id: u8) -> io::Result<u8> {
    if id == 0 { Err(io::Error::other("no such row")) } else { Ok(id) }
}

#[larder::test]
async fn an_alias_with_one_argument_is_a_result() {
    assert_eq!(read(0).await.unwrap_err().to_string(), "no such row");
    assert_eq!(read(1).await.unwrap(), 1);
    assert_eq!(read::outcome(1).await.unwrap().source, Source::Near);
}

static PLAIN: AtomicU32 = AtomicU32::new(0);

#[cached]
fn plain(id: u8) -> Result<Option<Arc<u8>>, String> {
    count(&PLAIN);
    match id {
        0 => Err("no".to_owned()),
        1 => Ok(None),
        id => Ok(Some(Arc::new(id))),
    }
}

#[larder::test]
async fn a_plain_function_returns_the_same_kinds() {
    for _ in 0..2 {
        assert_eq!(plain(0), Err("no".to_owned()));
        assert_eq!(plain(1), Ok(None));
        assert_eq!(plain(2), Ok(Some(Arc::new(2))));
    }
    assert_eq!(PLAIN.load(Ordering::SeqCst), 5);
    assert_eq!(plain::outcome(2).unwrap().source, Source::Near);
}

#[cached(near)]
async fn forever() -> &'static str {
    "static"
}

#[larder::test]
async fn the_near_tier_takes_static_references() {
    assert_eq!(forever().await, "static");
    assert_eq!(forever::outcome().await.source, Source::Near);
}
