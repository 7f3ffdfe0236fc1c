//! Carries out the planned faults, each in its time, and takes it back.

use std::sync::Arc;

use cache_events::Position;
use tokio::task::JoinSet;

use crate::life;
use crate::link::bury;
use crate::plan::{Fault, Planned};
use crate::server::Broken;
use crate::time::pass;
use crate::weather::Line;
use crate::world::{State, World};

const HOUR_MS: i64 = 3_600_000;
/// When a node gives up a sync.
const SYNC_TIMEOUT_MS: u64 = 400;

/// Runs all faults of the plan; returns when the last has been taken back.
pub(crate) async fn run(world: Arc<World>) {
    let mut under_way = JoinSet::new();
    for planned in world.plan.faults.clone() {
        pass(planned.at_ms.saturating_sub(world.now())).await;
        under_way.spawn(one(world.clone(), planned));
    }
    while under_way.join_next().await.is_some() {}
}

/// Carries out a fault.
pub(crate) async fn one(world: Arc<World>, planned: Planned) {
    let Planned { for_ms, fault, .. } = planned;
    world.note(|| format!("FAULT {fault:?} for {for_ms} ms"));
    match fault {
        Fault::Partition { node } => {
            line(&world, node, for_ms, |line| [&mut line.out_cut, &mut line.back_cut, &mut line.hints_cut])
                .await;
        }
        Fault::Mute { node } => line(&world, node, for_ms, |line| [&mut line.out_cut]).await,
        Fault::Deaf { node } => {
            line(&world, node, for_ms, |line| [&mut line.back_cut, &mut line.hints_cut]).await;
        }
        Fault::NoControl { node } => {
            line(&world, node, for_ms, |line| [&mut line.control_cut, &mut line.hints_cut]).await;
        }
        Fault::HalfOpen { node } => line(&world, node, for_ms, |line| [&mut line.hints_cut]).await,
        Fault::Refused { node } => {
            world.with(|state, _| world.reset_subscriptions(state, node));
            line(&world, node, for_ms, |line| [&mut line.refused]).await;
        }
        Fault::Pause { node } => {
            world.nodes[node].pause();
            pass(for_ms).await;
            world.nodes[node].go_on();
        }
        Fault::Crash { node } => crash(&world, node, for_ms).await,
        Fault::ClockForward { node, ms } => world.nodes[node].clock.forward(ms),
        Fault::WallBack { node, ms } => world.nodes[node].clock.wall_back(ms),
        Fault::Stop => {
            world.with(|state, now| state.stopped_until = state.stopped_until.max(now + for_ms));
        }
        Fault::Restart => {
            // Where another one was the master meanwhile, what it was given is not in the data of this one.
            if server_dies(&world, for_ms, |state| state.server.snapshot()).await == Succession::Interrupted {
                world.judge.data_lost(world.now());
            }
        }
        Fault::Emptied => {
            let _ = server_dies(&world, for_ms, |state| state.server.nothing()).await;
            world.judge.data_lost(world.now());
        }
        Fault::OldSnapshot { age_ms } => {
            let old = world.with(|state, _| state.server.snapshot());
            pass(age_ms).await;
            let _ = server_dies(&world, for_ms, move |_| old).await;
            world.judge.data_lost(world.now());
        }
        Fault::Failover { lag_ms } => {
            let replica = world.with(|state, _| state.server.replication_breaks());
            pass(lag_ms).await;
            fail_over(&world, replica);
        }
        Fault::BlindFailover { lag_ms } => {
            let replica = world.with(|state, _| state.server.replication_breaks());
            pass(lag_ms).await;
            let mut blind = JoinSet::new();
            for node in 0..world.nodes.len() {
                let world = world.clone();
                blind.spawn(async move { line(&world, node, for_ms, |line| [&mut line.control_cut]).await });
            }
            // What was under way.
            pass(40).await;
            fail_over(&world, replica);
            while blind.join_next().await.is_some() {}
        }
        Fault::ThereAndBack { lag_ms, clocks_behind } => {
            let replica = world.with(|state, _| state.server.replication_breaks());
            pass(lag_ms).await;
            if clocks_behind {
                world.with(|state, _| state.server.skew -= 2 * HOUR_MS);
            }
            let old_master = fail_over(&world, replica);
            pass(for_ms).await;
            promote(&world, old_master);
            world.judge.data_lost(world.now());
        }
        Fault::SwitchedBack { lag_ms } => {
            let (replica, incarnation) =
                world.with(|state, _| (state.server.replication_breaks(), state.server.incarnation()));
            pass(lag_ms).await;
            let unaware = fail_over(&world, replica);
            pass(for_ms).await;
            world.with(|state, now| {
                state.server.switched_back(unaware, incarnation, now);
                world.connections_lost(state, now);
            });
            world.judge.data_lost(world.now());
        }
        Fault::Epochs { node, clock_behind } => {
            world.with(|state, _| {
                state.weather.late_for_all += 1;
                state.server.skew -= if clock_behind { 2 * HOUR_MS } else { 0 };
            });
            tokio::join!(epochs(&world, for_ms), clock_hops(&world, node, for_ms));
            world.with(|state, _| state.weather.late_for_all -= 1);
        }
        Fault::ClockHops { node } => clock_hops(&world, node, for_ms).await,
        Fault::FlushAll => {
            world.with(|state, _| state.server.meddle(|part| *part = Default::default()));
            world.judge.data_lost(world.now());
        }
        Fault::LostMeta => world.with(|state, _| state.server.meddle(|part| part.lose_meta())),
        Fault::LostLog => world.with(|state, _| state.server.meddle(|part| part.lose_log())),
        Fault::Trimmed { keep } => world.with(|state, _| state.server.meddle(|part| part.trim(keep))),
        Fault::ServerClock { ms } => put_clock(&world, ms),
        Fault::ServerClockAstray { ms } => {
            put_clock(&world, ms);
            pass(for_ms).await;
            let mut rng = world.plan.rng("expired");
            world.with(|state, now| {
                let ms = state.server.ms(now);
                state.server.meddle(|part| part.expire(ms, &mut rng));
            });
            put_clock(&world, -ms);
        }
        Fault::Spoilt { cut } => world.with(|state, _| state.server.meddle(|part| part.spoil_records(cut))),
        Fault::Unreadable => world.with(|state, _| state.server.meddle(|part| part.spoil_log())),
        Fault::SlotMoves => {
            world.with(|state, _| state.slot_moves += 1);
            pass(for_ms).await;
            world.with(|state, _| state.slot_moves -= 1);
        }
        Fault::Slow { times } => {
            world.with(|state, _| state.weather.slow = times);
            pass(for_ms).await;
            world.with(|state, _| state.weather.slow = 1);
        }
    }
    world.note(|| format!("over: {fault:?}"));
}

/// The server's clock is put forward or back.
fn put_clock(world: &World, ms: i64) {
    world.with(|state, _| state.server.skew += ms);
    if ms > 60_000 {
        // All records expire at once.
        world.judge.data_lost(world.now());
    }
}

/// A fault lies upon parts of a line for a while.
async fn line<const N: usize>(
    world: &World,
    node: usize,
    for_ms: u64,
    parts: impl Fn(&mut Line) -> [&mut u32; N],
) {
    world.with(|state, _| parts(&mut state.lines[node]).into_iter().for_each(|part| *part += 1));
    pass(for_ms).await;
    world.with(|state, _| parts(&mut state.lines[node]).into_iter().for_each(|part| *part -= 1));
}

/// New epochs, so close to each other that answers of more than one are on their way.
async fn epochs(world: &World, for_ms: u64) {
    let mut rng = world.plan.rng("epochs");
    let end = world.now() + for_ms;
    while world.now() < end {
        world.with(|state, now| {
            state.server.meddle(|part| part.lose_meta());
            for partition in world.partitions() {
                state.server.step(partition, now, |part, step| part.hello(Position::ZERO, step));
            }
        });
        pass(rng.u64(10..150)).await;
    }
}

/// The node believes that each of its syncs has taken too long.
async fn clock_hops(world: &World, node: usize, for_ms: u64) {
    let end = world.now() + for_ms;
    while world.now() < end {
        world.nodes[node].clock.forward(SYNC_TIMEOUT_MS + 50);
        pass(50).await;
    }
}

/// Records leave for room now and then.
pub(crate) async fn evict(world: Arc<World>) {
    let every = world.plan.evict_every_ms;
    let mut rng = world.plan.rng("evictions");
    while every > 0 && world.now() < world.plan.work_ms {
        pass(rng.u64(every / 2..=every * 3 / 2)).await;
        world.with(|state, _| state.server.meddle(|part| part.evict(&mut rng)));
    }
}

async fn crash(world: &Arc<World>, node: usize, for_ms: u64) {
    let Some(cache) = world.nodes[node].die() else { return };
    world.with(|state, _| world.reset_subscriptions(state, node));
    world.desk.died(node);
    let buried = async {
        pass(for_ms).await;
        life::start(world, node);
    };
    tokio::join!(bury(cache), buried);
}

/// Who was the master while a server was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Succession {
    /// Nobody.
    Vacant,
    /// Another fault had put another one, or its data, in the place; or it was away already and had nothing.
    Interrupted,
}

/// The server is away for a while and comes back with other data.
async fn server_dies(
    world: &World,
    for_ms: u64,
    data: impl FnOnce(&State) -> Vec<crate::server::Part>,
) -> Succession {
    let (data, life, was_up) = world.with(|state, now| {
        let (data, was_up) = (data(state), state.server.up);
        state.server.up = false;
        let nothing = state.server.nothing();
        state.server.reborn(nothing);
        world.connections_lost(state, now);
        (data, state.server.life, was_up)
    });
    pass(for_ms).await;
    world.with(|state, now| {
        let undisturbed = was_up && state.server.life == life;
        state.server.reborn(data);
        state.server.up = true;
        world.connections_lost(state, now);
        if undisturbed { Succession::Vacant } else { Succession::Interrupted }
    })
}

/// The replica whose replication broke takes over. Gives back the data of the master that was.
fn fail_over(world: &World, replica: Broken) -> Vec<crate::server::Part> {
    let of_a_master = replica.of_a_master;
    let replica = world.with(|state, _| state.server.replica(replica));
    let has: Vec<Option<Position>> = replica.iter().map(crate::server::Part::position).collect();
    let old = promote(world, replica);
    match of_a_master {
        true => world.judge.tail_lost(|partition| has[partition.index()], world.now()),
        false => world.judge.data_lost(world.now()),
    }
    old
}

/// Another server is the master from here on. Gives back the data of the one that was.
fn promote(world: &World, data: Vec<crate::server::Part>) -> Vec<crate::server::Part> {
    world.with(|state, now| {
        let old = state.server.reborn(data);
        world.connections_lost(state, now);
        old
    })
}
