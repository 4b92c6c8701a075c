//! What is gone afterwards.

use larder_core::{Tag, escape_glob};
use larder_invalidation::{InvalidateExt as _, dimensions};

use crate::sinks::Shelf;

const MARKET: [&str; 6] = [
    "api:ticker:BTC",
    "api:ticker:BTCUSDT",
    "db:candles:BTCUSDT:1h",
    "indicator:rsi:BTCUSDT:14",
    "indicator:rsi:ETHUSDT:14",
    "session:BTCUSDT",
];

#[tokio::test]
async fn a_symbol_goes_from_its_regions_and_longer_and_shorter_names_stay() {
    let shelf = Shelf::with(&MARKET);
    let gone = shelf.invalidation().symbol("BTCUSDT").await.unwrap();
    assert_eq!(gone.remote, 3);
    assert_eq!(shelf.keys(), ["api:ticker:BTC", "indicator:rsi:ETHUSDT:14", "session:BTCUSDT"]);
}

#[tokio::test]
async fn a_symbol_named_star_is_not_a_wildcard() {
    let shelf = Shelf::with(&MARKET);
    assert_eq!(shelf.invalidation().symbol("*").user_session("BTC*").await.unwrap().remote, 0);
    assert_eq!(shelf.keys().len(), MARKET.len());
}

#[tokio::test]
async fn entries_outside_the_regions_go_by_their_tag() {
    let shelf = Shelf::default();
    shelf.put("report:today", &[Tag::from("symbol:BTCUSDT")]);
    shelf.put("report:yesterday", &[Tag::from("symbol:ETHUSDT")]);
    shelf.invalidation().symbol("BTCUSDT").await.unwrap();
    assert_eq!(shelf.keys(), ["report:yesterday"]);
}

#[tokio::test]
async fn one_users_session_goes_and_the_others_stay() {
    let shelf = Shelf::with(&["session:7:token", "session:77:token", "session:positions:7", "db:7"]);
    shelf.invalidation().user_session(7).await.unwrap();
    assert_eq!(shelf.keys(), ["db:7", "session:77:token"]);
}

#[tokio::test]
async fn escaped_user_text_in_a_pattern_matches_only_itself() {
    let shelf = Shelf::with(&["user:a*:x", "user:ab:x"]);
    shelf.invalidation().pattern(&format!("user:{}:*", escape_glob("a*"))).await.unwrap();
    assert_eq!(shelf.keys(), ["user:ab:x"]);
}

#[tokio::test]
async fn a_region_goes_whole_and_everything_is_everything() {
    let shelf = Shelf::with(&MARKET);
    shelf.invalidation().region("indicator").await.unwrap();
    assert_eq!(shelf.keys().len(), 4);
    shelf.invalidation().everything().await.unwrap();
    assert_eq!(shelf.keys(), [""; 0]);
}

#[tokio::test]
async fn a_dry_run_counts_and_leaves_everything_there() {
    let shelf = Shelf::with(&MARKET);
    let preview = shelf.invalidation().key("api:ticker:BTC").symbol("BTCUSDT").dry_run().await.unwrap();
    assert_eq!(preview.counted_keys(), 4);
    assert!(!preview.is_exact());
    assert_eq!(
        preview.to_string(),
        "key shop:api:ticker:BTC: 1 key\n\
         part BTCUSDT below shop:api:: 1 key\n\
         part BTCUSDT below shop:db:: 1 key\n\
         part BTCUSDT below shop:indicator:: 1 key\n\
         tags symbol:BTCUSDT: not counted\n"
    );
    assert_eq!(shelf.keys().len(), MARKET.len());
}

dimensions! {
    /// What a desk invalidates by.
    trait Desk {
        /// A book.
        fn book(name: &str) = "book" in ["api", "positions"];
        /// An account.
        fn account(id: u64) = "account";
    }
}

#[tokio::test]
async fn methods_of_the_applications_own_name_whole_parts_and_tags() {
    let shelf = Shelf::with(&["api:rates:1", "positions:rates", "positions:rates2", "other:rates", "7"]);
    shelf.put("board", &[Tag::from("book:rates")]);
    shelf.put("statement", &[Tag::from("account:7")]);
    shelf.invalidation().book("rates").account(7).await.unwrap();
    assert_eq!(shelf.keys(), ["7", "other:rates", "positions:rates2"]);
    assert!(shelf.invalidation().book("").await.is_err(), "an empty name names nothing");
}
