//! The cluster fixture, against real servers.

use larder_testing::RedisCluster;

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = RedisCluster::builder().password("p@ss").start();
    assert!(cluster.url().starts_with("redis-cluster://:p%40ss@127.0.0.1:"), "{}", cluster.url());
    let old = cluster.primary_of("k");
    let replica = cluster.replica_of(old);
    assert_eq!(cluster.node(old).command(&["SET", "k", "v"]), "OK");
    assert_eq!(cluster.node(old).command(&["WAIT", "1", "5000"]), "1");
    cluster.kill(old);
    assert_eq!(cluster.await_failover(old), replica);
    assert_eq!(cluster.primary_of("k"), replica);
    assert_eq!(cluster.node(replica).command(&["GET", "k"]), "v");
    cluster.restart(old);
    cluster.await_settled();
    assert_eq!(cluster.primary_of("k"), replica);
}

#[test]
fn a_replica_takes_over_when_asked_to() {
    let cluster = RedisCluster::start();
    let old = cluster.primary_of("k");
    let replica = cluster.replica_of(old);
    cluster.failover(replica);
    assert_eq!(cluster.primary_of("k"), replica);
    assert_eq!(cluster.replica_of(replica), old);
}

#[test]
fn a_slot_moves_in_steps() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let (slot, from) = (cluster.slot_of("{k}1"), cluster.primary_of("{k}1"));
    let to = (from + 1) % 3;
    for key in ["{k}1", "{k}2"] {
        cluster.node(from).command(&["SET", key, "v"]);
    }
    cluster.begin_migration(slot, to);
    assert_eq!(cluster.move_keys(slot, 1), 1);
    let asked = ["{k}1", "{k}2"].map(|key| cluster.node(from).try_command(&["GET", key]));
    let errors: Vec<String> = asked.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert!(matches!(&errors[..], [error] if error.contains("ASK ")), "{errors:?}");
    assert_eq!(cluster.move_keys(slot, 10), 1);
    cluster.finish_migration(slot);
    assert_eq!(cluster.primary_of("{k}1"), to);
    assert_eq!(cluster.node(to).command(&["GET", "{k}2"]), "v");
}
