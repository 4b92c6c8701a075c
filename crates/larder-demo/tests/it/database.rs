use std::collections::BTreeMap;

use larder_demo::{
    candle::Candle,
    candles::Series,
    database::{Database, DatabaseError, SeedPlan},
    interval::Interval,
    market::Market,
};
use serde_json::json;

fn candles(count: usize) -> Vec<Candle> {
    Series { seed: 1, symbol: "BTCUSDT", interval: Interval::Hour, revision: 0 }.generate(count)
}

async fn seeded() -> Database {
    let database = Database::in_memory().await.unwrap();
    let market = Market::of_symbols(1, ["BTCUSDT", "ETHUSDT"]).unwrap();
    database.seed(&market, SeedPlan::new(50, 10)).await.unwrap();
    database
}

#[tokio::test]
async fn the_newest_candles_come_back_exactly_the_oldest_first() {
    let database = Database::in_memory().await.unwrap();
    let all = candles(2_500);
    database.upsert_candles("BTCUSDT", Interval::Hour, &all).await.unwrap();
    assert_eq!(database.latest_candles("BTCUSDT", Interval::Hour, 100).await.unwrap(), all[2_400..]);
    assert_eq!(database.latest_candles("BTCUSDT", Interval::Hour, 9_999).await.unwrap(), all);
    assert!(database.latest_candles("BTCUSDT", Interval::Day, 10).await.unwrap().is_empty());
    assert!(database.latest_candles("NONE", Interval::Hour, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn storing_candles_replaces_those_of_the_same_time_and_moves_the_revision() {
    let database = Database::in_memory().await.unwrap();
    let mut all = candles(10);
    assert_eq!(database.revision("BTCUSDT").await.unwrap(), 0);
    assert_eq!(database.upsert_candles("BTCUSDT", Interval::Hour, &all).await.unwrap(), 1);
    all[9].high += 5.0;
    assert_eq!(database.upsert_candles("BTCUSDT", Interval::Hour, &all[9..]).await.unwrap(), 2);
    assert_eq!(database.latest_candles("BTCUSDT", Interval::Hour, 100).await.unwrap(), all);
    assert_eq!(database.revision("BTCUSDT").await.unwrap(), 2);
    assert_eq!(database.revision("ETHUSDT").await.unwrap(), 0);
}

#[tokio::test]
async fn a_candle_that_is_not_sound_leaves_everything_as_it_was() {
    let database = Database::in_memory().await.unwrap();
    let mut all = candles(10);
    all[3].low = all[3].high + 1.0;
    let error = database.upsert_candles("BTCUSDT", Interval::Hour, &all).await.unwrap_err();
    assert!(matches!(error, DatabaseError::BadCandle { index: 3, .. }), "{error}");
    assert!(database.latest_candles("BTCUSDT", Interval::Hour, 100).await.unwrap().is_empty());
    assert_eq!(database.revision("BTCUSDT").await.unwrap(), 0);
}

#[tokio::test]
async fn preferences_are_replaced_as_a_whole() {
    let database = seeded().await;
    let before = database.preferences(3).await.unwrap();
    assert!(before.values.contains_key("theme") && before.values.contains_key("watchlist"));
    let values =
        BTreeMap::from([("theme".to_owned(), json!("blue")), ("limits".to_owned(), json!({"daily": [1, 2.5]}))]);
    let put = database.put_preferences(3, &values).await.unwrap();
    assert_eq!(put.values, values);
    assert_eq!(database.preferences(3).await.unwrap(), put);
    database.put_preferences(3, &BTreeMap::new()).await.unwrap();
    assert!(database.preferences(3).await.unwrap().values.is_empty());
    assert_ne!(database.preferences(4).await.unwrap().values, values);
}

#[tokio::test]
async fn an_unknown_user_has_no_preferences_to_read_or_replace() {
    let database = seeded().await;
    for error in
        [database.preferences(11).await.unwrap_err(), database.put_preferences(11, &BTreeMap::new()).await.unwrap_err()]
    {
        assert!(matches!(error, DatabaseError::UnknownUser { user_id: 11 }), "{error}");
    }
    assert!(database.positions(11).await.unwrap().is_empty());
    assert!(matches!(database.preferences(u64::MAX).await, Err(DatabaseError::TooLarge { .. })));
}

#[tokio::test]
async fn a_seed_determines_users_positions_and_candles() {
    let (one, two) = (seeded().await, seeded().await);
    let mut held = 0;
    for user in 1..=10 {
        let positions = one.positions(user).await.unwrap();
        assert_eq!(positions, two.positions(user).await.unwrap());
        assert_eq!(one.preferences(user).await.unwrap(), two.preferences(user).await.unwrap());
        assert!(positions.iter().all(|position| position.user_id == user));
        assert!(positions.windows(2).all(|pair| pair[0].opened <= pair[1].opened));
        held += positions.len();
    }
    assert!(held > 10, "{held} positions");
    assert_eq!(one.users().await.unwrap(), 10);
    let market = Market::of_symbols(1, ["BTCUSDT", "ETHUSDT"]).unwrap();
    let stored = one.latest_candles("ETHUSDT", Interval::Day, 50).await.unwrap();
    assert_eq!(stored, market.candles("ETHUSDT", Interval::Day, 50, 0).unwrap());
    assert_eq!(one.revision("ETHUSDT").await.unwrap(), 0);
}

#[tokio::test]
async fn a_database_is_seeded_once() {
    let database = seeded().await;
    let again = database.seed(&Market::generated(1), SeedPlan::new(5, 5)).await.unwrap_err();
    assert_eq!(again.to_string(), "the database has 10 users already; seed an empty one");
    assert_eq!(database.users().await.unwrap(), 10);
}

#[tokio::test]
async fn every_statement_is_counted_by_all_clones() {
    let database = seeded().await;
    let before = database.queries();
    database.clone().latest_candles("BTCUSDT", Interval::Hour, 10).await.unwrap();
    database.preferences(1).await.unwrap();
    database.positions(1).await.unwrap();
    assert_eq!(database.queries() - before, 3);
    database.upsert_candles("BTCUSDT", Interval::Hour, &candles(3)).await.unwrap();
    assert_eq!(database.queries() - before, 5);
}

#[tokio::test]
async fn concurrent_writers_and_readers_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for database in
        [Database::in_memory().await.unwrap(), Database::in_file(folder.path().join("demo.db")).await.unwrap()]
    {
        let all = candles(40);
        let mut writers = tokio::task::JoinSet::new();
        for candle in all.clone() {
            let database = database.clone();
            writers.spawn(async move {
                database.upsert_candles("BTCUSDT", Interval::Hour, &[candle]).await.unwrap();
                database.latest_candles("BTCUSDT", Interval::Hour, 100).await.unwrap();
            });
        }
        writers.join_all().await;
        assert_eq!(database.revision("BTCUSDT").await.unwrap(), 40, "{database:?}");
        assert_eq!(database.latest_candles("BTCUSDT", Interval::Hour, 100).await.unwrap(), all, "{database:?}");
        database.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_read_first_wait_for_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::in_file(folder.path().join("demo.db")).await.unwrap();
    database.seed(&Market::of_symbols(1, ["BTCUSDT"]).unwrap(), SeedPlan::new(5, 4)).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..80_u64 {
        let database = database.clone();
        let values = BTreeMap::from([("number".to_owned(), json!(number))]);
        writers.spawn(async move { database.put_preferences(number % 4 + 1, &values).await.unwrap() });
    }
    assert_eq!(writers.join_all().await.len(), 80);
    assert_eq!(database.preferences(2).await.unwrap().values.len(), 1);
    database.close().await;
}

#[tokio::test]
async fn a_file_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.db");
    let database = Database::in_file(&path).await.unwrap();
    database.upsert_candles("BTCUSDT", Interval::Hour, &candles(5)).await.unwrap();
    database.close().await;
    let error = database.revision("BTCUSDT").await.unwrap_err().to_string();
    assert!(error.starts_with("the database failed to read a revision"), "{error}");
    let again = Database::in_file(&path).await.unwrap();
    assert_eq!(again.latest_candles("BTCUSDT", Interval::Hour, 10).await.unwrap(), candles(5));
    again.close().await;
}
