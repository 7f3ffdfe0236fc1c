//! Deployments of several servers do what their names say.

use cache_testkit::{RedisCluster, RedisReplicated, RedisSentinels};

#[test]
fn a_replica_follows_and_is_promoted() {
    let deployment = RedisReplicated::start(1);
    deployment.master.command(&["SET", "a", "1"]);
    // Not WAIT, which would look at what its own connection has written: nothing.
    while deployment.replicas[0].command(&["EXISTS", "a"]).int() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(deployment.replicas[0].command(&["GET", "a"]).text(), "1");
    assert_eq!(deployment.promote(0).info("replication", "role"), "master");
}

#[test]
fn sentinels_promote_the_replica_of_a_master_that_is_killed() {
    let mut deployment = RedisSentinels::start(&["one", "two"]);
    assert_eq!((deployment.master_of(0), deployment.master_of(1)), (0, 0));
    let killed = deployment.kill_master(1);
    deployment.wait_for_failover(1, killed);
    assert_eq!((deployment.master_of(0), deployment.master_of(1)), (0, 1));
}

#[test]
fn a_cluster_forms_moves_slots_and_fails_over() {
    let mut cluster = RedisCluster::start();
    // That of the key "foo".
    let slot = 12_182;
    assert_eq!(cluster.owner_of(slot), 2);
    cluster.nodes[2].command(&["SET", "foo", "1"]);
    cluster.move_slot(slot, 0);
    assert_eq!(cluster.owner_of(slot), 0);
    assert_eq!(cluster.nodes[0].command(&["GET", "foo"]).text(), "1");
    cluster.fail_over_to(3);
    assert_eq!(cluster.owner_of(0), 3);
    cluster.nodes[1].kill();
    cluster.wait_for_failover(6_000, 1);
    assert_eq!(cluster.owner_of(6_000), 4);
}
