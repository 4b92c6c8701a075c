//! The fixture of sentinels, against real servers.

use larder_testing::RedisSentinels;

#[test]
fn sentinels_replace_a_killed_primary() {
    let mut group = RedisSentinels::builder().password("p@ss").sentinel_password("other").start();
    assert!(group.url().starts_with("redis-sentinel://:p%40ss@127.0.0.1:"), "{}", group.url());
    assert!(group.url().ends_with("/0#mymaster"), "{}", group.url());
    let (old, port) = (group.primary(), group.primary_port());
    group.server_mut(old).kill();
    let new = group.await_new_primary(port);
    assert_ne!(new, port);
    assert_eq!(group.server(group.primary()).command(&["SET", "k", "v"]), "OK");
}

#[test]
fn sentinels_move_the_primary_when_asked_to() {
    let group = RedisSentinels::start();
    let old = group.primary_port();
    let new = group.failover();
    assert_ne!(new, old);
    assert_eq!(group.primary_port(), new);
}
