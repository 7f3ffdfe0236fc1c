//! One schedule from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{NodeId, Scope};
use tokio::task::JoinSet;

use crate::clock::NodeClock;
use crate::judge::Violation;
use crate::plan::Plan;
use crate::source::Style;
use crate::time::{Timeline, pass};
use crate::trace::Detail;
use crate::world::{Node, World};
use crate::{agenda, client, life, nemesis};

/// Nodes are live and outboxes empty so long after the last fault at the latest.
const SETTLED_MS: u64 = 6_000;

/// What a schedule showed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed that replays it.
    pub seed: u64,
    /// What was broken; empty if all went well.
    pub violations: Vec<Violation>,
    /// Messages that arrived.
    pub events: u64,
    /// Of everything that happened; 0 if nothing was kept.
    pub digest: u64,
    /// The trace, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs the schedule of a seed. The same seed gives the same schedule to the last bit.
///
/// # Panics
/// If no runtime can be made, or in a runtime.
pub fn run(seed: u64, detail: Detail) -> Outcome {
    // The engine draws tokens and event ids from the generator of its thread.
    fastrand::seed(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    #[expect(
        clippy::expect_used,
        reason = "a runtime of one thread without I/O takes nothing that could be missing"
    )]
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(schedule(Plan::of(seed), detail))
}

async fn schedule(plan: Plan, detail: Detail) -> Outcome {
    let seed = plan.seed;
    let timeline = Timeline::begin();
    let mut rng = plan.rng("nodes");
    let mut node = |number: usize| {
        let (drift, wall_off) = (rng.i64(-1_000..=1_000), rng.i64(-2_000..=2_000));
        let id = NodeId::new(format!("n{number}")).unwrap_or_else(|_| unreachable!("a valid name"));
        Node::new(id, Arc::new(NodeClock::new(timeline, drift, plan.grain, wall_off)))
    };
    let nodes = (0..plan.nodes).map(&mut node).collect();
    let world = World::new(plan, timeline, nodes, detail);
    world.note(|| format!("{:?}", world.plan));

    let mut messages = JoinSet::new();
    messages.spawn(agenda::carry_out(world.clone()));
    (0..world.nodes.len()).for_each(|node| life::start(&world, node));
    let mut tasks = JoinSet::new();
    tasks.spawn(nemesis::run(world.clone()));
    tasks.spawn(nemesis::evict(world.clone()));
    for node in 0..world.nodes.len() {
        for number in 0..world.plan.clients_per_node {
            tasks.spawn(client::run(world.clone(), node, number));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            world.violated(format!("a task of the schedule: {error}"));
        }
    }
    if world.judge.is_clean() {
        end(&world).await;
    }
    for node in &world.nodes {
        if let Some(cache) = node.die() {
            cache.stop().await;
        }
    }
    messages.shutdown().await;
    let (digest, lines) = world.trace.take();
    let violations = world.judge.take_violations();
    Outcome { seed, violations, events: world.agenda.done(), digest, lines }
}

/// The faults are over and the weather is fine: now everything must come right.
async fn end(world: &Arc<World>) {
    world.with(|state, _| {
        state.weather = crate::weather::Weather { delay: (0, 1), ..Default::default() };
    });
    world.note(|| "the weather is fine".into());
    let began = world.now();
    while !settled(world) {
        if world.now() - began > SETTLED_MS {
            return world
                .violated(format!("liveness: after {SETTLED_MS} ms of fine weather: {}", conditions(world)));
        }
        pass(20).await;
    }
    if world.judge.has_lost_data() {
        let versioned = world.judge.source.rows.iter().filter(|row| row.style == Style::Versioned);
        versioned.for_each(|row| world.desk.orphan(Scope::Key(row.key.clone())));
    }
    // Nobody has these in an outbox any more; the system of record remembers them and says so once more.
    for scope in world.desk.take_orphans() {
        let Some((_, cache)) = world.nodes[0].cache() else { continue };
        if let Err(error) = cache.invalidate(scope, "once more").await {
            world.violated(format!("liveness: not acknowledged in fine weather: {error}"));
        }
    }
    for node in 0..world.nodes.len() {
        let Some((_, cache)) = world.nodes[node].cache() else { continue };
        if !cache.sync(Duration::from_secs(2)).await {
            world.violated(format!("liveness: {} cannot sync in fine weather", world.nodes[node].id));
        }
        client::read_everything(world, node).await;
    }
    hear(world);
}

fn settled(world: &World) -> bool {
    world.nodes.iter().all(|node| {
        node.cache().is_some_and(|(_, cache)| {
            let health = cache.health();
            health.live && health.outbox == 0
        })
    })
}

fn conditions(world: &World) -> String {
    let of = |node: &Node| match node.cache() {
        Some((_, cache)) => {
            let health = cache.health();
            format!("{} is {:?} with {} in its outbox", node.id, health.states, health.outbox)
        }
        None => format!("{} is dead", node.id),
    };
    world.nodes.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Whoever listened when an event was published has heard of it, or that it may have missed some.
fn hear(world: &World) {
    for published in world.desk.take_published() {
        for (node, life) in published.audience {
            let lives = world.nodes[node].life() == life;
            if lives && !world.heard.of(node, life, &published.id, published.at_ms) {
                let (node, by) = (&world.nodes[node].id, &world.nodes[published.by].id);
                world.violated(format!("{node} never heard of the event {} of {by}", published.id));
            }
        }
    }
}
