//! A whole cache under the user that `docs/redis.md` shows.

use std::{fs, path::Path, sync::Arc, time::Duration};

use larder::{Cache, Strategy};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;

const DEADLINE: Duration = Duration::from_secs(10);
const PATIENT: Strategy = Strategy::new("patient", Duration::from_secs(600)).remote_deadline(DEADLINE);

#[tokio::test]
async fn the_rights_of_the_page_are_enough_for_a_cache() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/redis.md")).unwrap();
    let rule = page.lines().find(|line| line.starts_with("user shop ")).expect("the page shows the rule");
    let server = RedisServer::builder().acl(rule).start();
    let config = RedisConfig::builder().url(server.url()).user("shop").password("change-me");
    let config = config.connect_deadline(DEADLINE).command_deadline(DEADLINE).build().unwrap();
    let settings = Cache::builder().namespace("shop").strategy(PATIENT).remote_command_deadline(DEADLINE);
    let cache = settings.backend(Arc::new(RedisBackend::new(config).unwrap())).build().await.unwrap();

    cache.try_set("a", 1_u64).tag("user:7").await.unwrap();
    let loaded = cache.get_or_load("b", || async { Ok::<_, std::io::Error>(2_u64) }).await.unwrap();
    assert_eq!((*loaded, cache.get::<_, u64>("a").await.as_deref()), (2, Some(&1)));
    cache.invalidate().tag("user:7").await.unwrap();
    assert_eq!(cache.get::<_, u64>("a").await, None);
    cache.invalidate().pattern("b*").await.unwrap();
    assert_eq!(cache.get::<_, u64>("b").await, None);
    assert!(cache.health().await.remote.is_some());
    assert_eq!(server.command(&["ACL", "LOG"]), "", "the server refused something");
}
