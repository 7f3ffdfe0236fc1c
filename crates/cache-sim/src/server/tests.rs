//! The modelled server keeps the contracts that real stores keep, through the ports that the nodes use.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::Transport;
use cache_bus::contract as transport_contract;
use cache_events::wire::CargoKind;
use cache_events::{Group, Key, Namespace, NodeId, Partition, Position};
use cache_l2::contract as store_contract;
use cache_l2::{Append, Invalidation, Store};

use crate::agenda;
use crate::clock::NodeClock;
use crate::link::Link;
use crate::plan::Plan;
use crate::ports::Ports;
use crate::time::{Timeline, pass};
use crate::trace::Detail;
use crate::weather::Weather;
use crate::world::{Node, World};

/// What no schedule needs: none comes near the limit of positions.
const UNNEEDED: [&str; 1] = ["positions_at_the_limit_are_refused"];

/// A node's ports in fine weather.
pub(crate) struct Fine {
    pub(crate) world: Arc<World>,
    ports: Ports,
}

/// A world of one node, without faults.
pub(crate) fn fine(partitions: u32) -> Fine {
    let mut plan = Plan::of(1);
    plan.partitions = partitions;
    plan.weather = Weather::default();
    (plan.log_entries_max, plan.groups_max, plan.inbox_max) = (100_000, 10_000, 8_192);
    plan.faults.clear();
    let timeline = Timeline::begin();
    let id = NodeId::new("n").expect("a valid name");
    let node = Node::new(id, Arc::new(NodeClock::new(timeline, 0, 1, 0)));
    let world = World::new(plan, timeline, vec![node], Detail::Nothing);
    let life = world.nodes[0].conceive();
    Fine { ports: Ports(Link::new(world.clone(), 0, life)), world }
}

#[async_trait]
impl store_contract::Harness for Fine {
    fn store(&self) -> &dyn Store {
        &self.ports
    }

    async fn pass(&self, time: Duration) {
        pass(time.as_millis() as u64).await;
    }
}

fn append(payload: Bytes) -> Append {
    Append { payload, ..Append::default() }
}

#[async_trait]
impl transport_contract::Harness for Fine {
    fn transport(&self) -> &dyn Transport {
        &self.ports
    }

    async fn append(&self, partition: Partition, payload: Bytes) -> Position {
        self.ports
            .invalidate(partition, &Invalidation::default(), append(payload))
            .await
            .expect("fine weather")
    }

    async fn stamp(&self, partition: Partition, group: &Group) -> Position {
        let (groups, keep) = (std::slice::from_ref(group), Duration::from_secs(60));
        self.ports
            .invalidate_groups(partition, groups, keep, append(Bytes::new()))
            .await
            .expect("fine weather")
    }

    async fn flush(&self, partition: Partition) -> Position {
        self.ports.flush(partition, append(Bytes::from_static(b"flush"))).await.expect("fine weather")
    }

    async fn carry(&self, partition: Partition, payload: Bytes, kind: CargoKind) -> (Position, Bytes) {
        store_contract::put_carrying(&self.ports, partition, payload, kind).await.expect("fine weather")
    }

    async fn trim(&self, partition: Partition) {
        self.world.with(|state, now| state.server.step(partition, now, |part, _| part.trim(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_modelled_server_keeps_the_contract_of_stores() {
    for partitions in [1, 3] {
        let fine = fine(partitions);
        let mut messages = tokio::task::JoinSet::new();
        messages.spawn(agenda::carry_out(fine.world.clone()));
        for rule in store_contract::rules().into_iter().filter(|rule| !UNNEEDED.contains(&rule.name)) {
            let verdict = rule.run(&fine).await;
            assert!(verdict.is_ok(), "{partitions} partitions: {verdict:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_modelled_server_keeps_the_contract_of_transports() {
    for partitions in [1, 3] {
        let fine = fine(partitions);
        let mut messages = tokio::task::JoinSet::new();
        messages.spawn(agenda::carry_out(fine.world.clone()));
        for rule in transport_contract::rules().into_iter().filter(|rule| !UNNEEDED.contains(&rule.name)) {
            let verdict = rule.run(&fine).await;
            assert!(verdict.is_ok(), "{partitions} partitions: {verdict:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_masters_that_know_the_same_past_begin_different_epochs_though_the_clock_is_behind() {
    let fine = fine(1);
    let begin = || {
        let hello =
            |part: &mut super::Part, step: &mut super::Step<'_>| part.hello(Position::ZERO, step).epoch;
        fine.world.with(|state, now| state.server.step(Partition(0), now, hello))
    };
    let first = begin();
    let past = fine.world.with(|state, _| {
        state.server.skew = -3_600_000;
        state.server.snapshot()
    });
    let epochs = [(); 2].map(|()| {
        let _ = fine.world.with(|state, _| state.server.reborn(past.clone()));
        begin()
    });
    assert!(epochs[0] > first && epochs[1] > first && epochs[0] != epochs[1], "{first}, then {epochs:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_outdated_while_the_clock_was_behind_stays_so_when_the_clock_is_right_again() {
    let fine = fine(1);
    let mut messages = tokio::task::JoinSet::new();
    messages.spawn(agenda::carry_out(fine.world.clone()));
    let (keep, ttl) = (Duration::from_secs(65), Duration::from_secs(60));
    let namespace = Namespace::new("ns").expect("a valid name");
    let key = Key::new(&namespace, "r").expect("a valid name");
    let put_clock = |ms| fine.world.with(|state, _| state.server.skew = ms);
    for (astray_ms, stays) in [(-900, true), (-3_600_000, false)] {
        put_clock(0);
        let record = [&b"EC\x01\x00"[..], &[0; cache_l2::HEADER_BYTES]].concat();
        let put = fine.ports.put(&key, record.into(), ttl, append(Bytes::new())).await.expect("fine weather");
        put_clock(astray_ms);
        let what = Invalidation {
            resources: vec![(namespace.clone(), key.resource().to_owned())],
            keep,
            ..Invalidation::default()
        };
        let event = Append { at: put, ..append(Bytes::new()) };
        let outdated = fine.ports.invalidate(Partition(0), &what, event).await.expect("fine weather");
        assert_eq!(outdated.epoch == put.epoch, stays, "off by {astray_ms} ms");
        put_clock(0);
        let group = Group::namespace(&namespace).id();
        let alive = fine.world.with(|state, now| state.server.live_record(&key, group, now));
        assert_eq!(alive, None, "off by {astray_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_replica_that_takes_over_lacks_is_not_replicated() {
    let fine = fine(1);
    let mut messages = tokio::task::JoinSet::new();
    messages.spawn(agenda::carry_out(fine.world.clone()));
    let write = || async {
        let event = Append { payload: Bytes::from_static(b"event"), ..Append::default() };
        let what = Invalidation::default();
        fine.ports.invalidate(Partition(0), &what, event).await.expect("fine weather")
    };
    let within = Duration::from_millis(5);
    let have = |at| fine.ports.replicated(Partition(0), at, 1, within);
    let first = write().await;
    assert_eq!(have(first).await.expect("fine weather"), 1);
    let broken = fine.world.with(|state, _| state.server.replication_breaks());
    let second = write().await;
    assert_eq!(have(first).await.expect("fine weather"), 1);
    assert_eq!(have(second).await.expect("fine weather"), 0, "it is in no replica");
    fine.world.with(|state, now| {
        let replica = state.server.replica(broken);
        let _ = state.server.reborn(replica);
        fine.world.connections_lost(state, now);
    });
    assert!(have(first).await.is_err(), "another master does not know what it may have lost");
}

#[tokio::test(start_paused = true)]
async fn a_master_that_was_emptied_does_not_begin_the_epoch_again_that_it_had_though_the_clock_is_behind() {
    let fine = fine(1);
    let at = Position::new(fine.world.with(|state, now| state.server.ms(now)) * 1_000, 0);
    fine.world.with(|state, _| state.server.skew = -3_600_000);
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let hello = |part: &mut super::Part, step: &mut super::Step<'_>| part.hello(at, step).epoch;
        epochs.push(fine.world.with(|state, now| state.server.step(Partition(0), now, hello)));
        fine.world.with(|state, _| state.server.meddle(|part| *part = super::Part::default()));
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    assert!(epochs.iter().all(|&epoch| epoch > at.epoch) && epochs[0] != epochs[1], "{epochs:?}");
}
