//! Listing keys: pages add up. That globs match as the table says is part of the conformance suite.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt;
use larder_core::{Backend, BackendExt, Key, Pattern, Scan, SetItem};
use larder_testing::RedisServer;

use crate::server::{backend_of, key, plain};

#[tokio::test]
async fn a_page_names_no_key_twice_and_all_pages_together_name_every_key() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let wanted: Vec<Key> = (0..3000).map(|index| key(&format!("in:{index}"))).collect();
    let items: Vec<_> = wanted.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    backend.set(&key("out:1"), "1".into(), plain()).await.unwrap();
    let pattern = Pattern::prefix("in:");
    let pages: Vec<Vec<Key>> = backend.scan(&pattern, 100).try_collect().await.unwrap();
    assert!(pages.len() > 10 && pages.iter().all(|page| !page.is_empty()));
    for page in &pages {
        assert_eq!(page.iter().collect::<HashSet<_>>().len(), page.len());
    }
    let text = |keys: &[Key]| keys.iter().map(|key| key.as_str().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(text(&pages.concat()), text(&wanted));
    assert_eq!(backend.delete_pattern(&pattern).await.unwrap(), 3000);
    assert_eq!(server.command(&["DBSIZE"]), "1");
}

#[tokio::test]
async fn an_empty_store_has_no_pages_and_a_rare_pattern_finds_its_key() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let nothing: Vec<Vec<Key>> = backend.scan(&Pattern::everything(), 10).try_collect().await.unwrap();
    assert!(nothing.is_empty());
    let items: Vec<_> = (0..2000).map(|index| SetItem::new(key(&format!("k{index}")), "1", plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    let found: Vec<Vec<Key>> = backend.scan(&Pattern::exactly(&key("k77")), 10).try_collect().await.unwrap();
    assert_eq!(found, [[key("k77")]]);
}
