use larder::{Cache, Source, cached};

#[cached]
async fn number(id: u32) -> u32 {
    id
}

#[tokio::test]
async fn a_scoped_cache_goes_before_the_default_one_and_into_loads() {
    let own = Cache::in_memory();
    larder::with_cache(own.clone(), async {
        number(1).await;
        let cache = larder::current();
        cache.get_or_load("outer", || async { Ok::<_, ()>(number(2).await) }).await.unwrap();
        assert_eq!(number::outcome(2).await.source, Source::Near);
    })
    .await;
    assert_eq!(own.regions().iter().map(|info| info.stats.loads).sum::<u64>(), 2);
    // Outside of the scope another cache serves.
    assert_eq!(number::outcome(1).await.source, Source::Loaded);
}
