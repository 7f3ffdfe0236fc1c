//! A client of a node: reads, writes and invalidates, one deed after the other.

use std::sync::Arc;

use cache_events::{EventKind, Key, Pattern, Scope, Version, WriteToken};
use cache_tiered::{
    Acknowledge, Answer, EventDraft, Freshness, Loaded, PutOutcome, ReadOptions, TieredCache, TypedCache,
    UpdateOutcome, Updates, WriteError, WriteOptions,
};

use crate::desk::Published;
use crate::judge::Read;
use crate::life::KIND;
use crate::source::{Growth, Style, TAGS, Value, namespace, tag};
use crate::time::pass;
use crate::wish::Wish;
use crate::world::World;

/// One client, with the node that it uses now.
struct Client {
    world: Arc<World>,
    node: usize,
    life: u64,
    cache: TieredCache,
}

/// Works until the plan says that it is enough.
pub(crate) async fn run(world: Arc<World>, node: usize, number: usize) {
    let mut rng = world.plan.rng(&format!("client {node}.{number}"));
    let (least, most) = world.plan.think;
    while world.now() < world.plan.work_ms && world.judge.is_clean() {
        pass(rng.u64(least..=most)).await;
        world.nodes[node].gate().await;
        let Some((life, cache)) = world.nodes[node].cache() else { continue };
        let client = Client { world: world.clone(), node, life, cache };
        if rng.u32(0..1000) < world.plan.writes_permille {
            client.write(&mut rng).await;
        } else {
            client.read(&mut rng).await;
        }
        client.look_around();
    }
}

/// Reads every row through a node, as the last act; the answers must be what the source says.
pub(crate) async fn read_everything(world: &Arc<World>, node: usize) {
    let Some((life, cache)) = world.nodes[node].cache() else { return };
    let client = Client { world: world.clone(), node, life, cache };
    for row in 0..world.judge.source.rows.len() {
        let now = client.world.judge.source.read(row);
        // Proof is to be had now, for whoever asks.
        let wish = if row % 5 == 0 { Wish::of(Freshness::Latest) } else { Wish::usual() };
        let answered = client.load(row, &wish, 1, 1).await;
        if answered
            .as_ref()
            .and_then(|answer| answer.value.as_ref())
            .is_none_or(|value| value.version != now.0)
        {
            let key = &client.world.judge.source.rows[row].key;
            let what = format!(
                "at the end {} answers {key} with {answered:?}; the source says {now:?}",
                client.name()
            );
            client.world.violated(what);
        }
    }
}

impl Client {
    fn name(&self) -> &str {
        self.world.nodes[self.node].id.as_str()
    }

    fn space(&self, row: usize) -> Option<TypedCache<Value>> {
        self.cache.namespace(self.world.judge.source.rows[row].style.name()).ok()
    }

    fn died(&self) -> bool {
        self.world.nodes[self.node].life() != self.life
    }

    fn look_around(&self) {
        for partition in self.world.partitions() {
            let position = self.cache.position(partition);
            self.world.judge.stands((self.node, self.life), partition, position, self.world.now());
        }
    }

    async fn read(&self, rng: &mut fastrand::Rng) {
        let world = &self.world;
        let rows = &world.judge.source.rows;
        let (row, wish) = Wish::any(any_row(rows.len(), rng), &world.desk, rng);
        let Some(space) = self.space(row) else { return };
        let key = &world.judge.source.rows[row].key;
        let began = world.now();
        let usual = Wish::usual();
        match rng.u32(0..100) {
            0..60 => {
                let (usual, slow) = world.plan.load_ms;
                let most = if rng.u32(0..8) == 0 { slow } else { usual };
                let (before, after) = (rng.u64(0..=most / 2), rng.u64(0..=most));
                let _ = self.load(row, &wish, before, after).await;
            }
            60..80 => {
                let options = ReadOptions { freshness: wish.freshness.clone(), ..ReadOptions::default() };
                if let Ok(Some(answer)) = space.get_with(key, &options).await {
                    self.judge(row, began, &wish, &answer);
                }
            }
            80..92 => {
                if let Some(answer) = space.resident(key) {
                    self.judge(row, began, &usual, &answer);
                }
            }
            _ => {
                let same = |other: &usize| rows[*other].style == rows[row].style;
                let asked: Vec<usize> = (0..rows.len()).filter(same).collect();
                let keys: Vec<Key> = asked.iter().map(|&row| rows[row].key.clone()).collect();
                let Ok(answers) = space.get_many(&keys).await else { return };
                for (row, answer) in asked.into_iter().zip(answers) {
                    if let Some(answer) = answer {
                        // Some were answered at once, and say how old they were then.
                        self.judge_as_of(row, began, began, &usual, &answer);
                    }
                }
            }
        }
    }

    /// Reads through all tiers. A load looks at the source after `before` and answers `after` that.
    async fn load(&self, row: usize, wish: &Wish, before: u64, after: u64) -> Option<Answer<Value>> {
        let space = self.space(row)?;
        let (world, node, life) = (self.world.clone(), self.node, self.life);
        let key = &self.world.judge.source.rows[row].key;
        let began = self.world.now();
        let options = ReadOptions { freshness: wish.freshness.clone(), ..ReadOptions::default() };
        let answer = space.get_or_load_with(key, &options, move || async move {
            pass(before).await;
            world.nodes[node].gate().await;
            let version = world.judge.source.read(row);
            pass(after).await;
            world.nodes[node].gate().await;
            if world.nodes[node].life() != life {
                return Err("the node has died".into());
            }
            let of = &world.judge.source.rows[row];
            let loaded = Loaded::new(Value { version: version.0 }).tagged(of.tag.clone());
            Ok(if of.style == Style::Versioned { loaded.versioned(version) } else { loaded })
        });
        let answer = answer.await;
        match answer {
            Ok(answer) => {
                self.judge(row, began, wish, &answer);
                Some(answer)
            }
            Err(error) => {
                self.world.note(|| format!("{} cannot read row {row}: {error}", self.name()));
                None
            }
        }
    }

    fn judge(&self, row: usize, began: u64, wish: &Wish, answer: &Answer<Value>) {
        self.judge_as_of(row, began, self.world.now(), wish, answer);
    }

    fn judge_as_of(&self, row: usize, began: u64, answered: u64, wish: &Wish, answer: &Answer<Value>) {
        let world = &self.world;
        if self.died() {
            return;
        }
        world.note(|| {
            let (key, value) = (&world.judge.source.rows[row].key, &answer.value);
            let (tier, lag, stale) = (answer.tier.as_str(), answer.lag_ms, answer.stale);
            format!(
                "{} reads {key} ({}) from {tier}: {value:?} of {}, lag {lag}, stale {stale}",
                self.name(),
                wish.freshness,
                answer.position
            )
        });
        let read = Read { node: self.name(), number: self.node, row, began, answered, wish };
        world.judge.read(&read, answer);
    }

    async fn write(&self, rng: &mut fastrand::Rng) {
        let rows = &self.world.judge.source.rows;
        let row = any_row(rows.len(), rng);
        match rows[row].style {
            Style::Put => self.put(row, rng).await,
            Style::Versioned => self.put_versioned(row, rng).await,
            Style::Aside | Style::Strict => {
                let scope = any_scope(&rows[row].key, rng);
                let publishes = rng.u32(0..4) == 0;
                self.invalidate(scope, publishes, rng).await;
            }
        }
    }

    async fn put(&self, row: usize, rng: &mut fastrand::Rng) {
        let (world, Some(space)) = (&self.world, self.space(row)) else { return };
        if !world.desk.take_turn(row) {
            return;
        }
        let of = &world.judge.source.rows[row];
        let (began, changed) = (world.now(), world.judge.source.write(&[row]));
        let version = changed[0].1;
        let level = any_level(rng);
        let done = if rng.u32(0..5) == 0 {
            self.note_write(|| format!("invalidates {} at {version:?}", of.key));
            let draft = EventDraft::new(EventKind::MANUAL_INVALIDATION, of.key.resource());
            self.cache.publish(draft.touching(Scope::Key(of.key.clone())).acknowledge(level)).await
        } else {
            self.note_write(|| format!("puts {} at {version:?}", of.key));
            let options = self.options(row, level);
            space.put_with(&of.key, Some(Value { version: version.0 }), &options).await
        };
        let done = done.map(|written| Some(written.token));
        let acked = done.is_ok() && !self.died();
        self.written(done, began, &changed, level, || Scope::Key(of.key.clone()));
        if !acked {
            // What was sent may still arrive; only then is it the next one's turn.
            pass(1_000).await;
        }
        world.desk.end_turn(row);
    }

    async fn put_versioned(&self, row: usize, rng: &mut fastrand::Rng) {
        let (world, Some(space)) = (&self.world, self.space(row)) else { return };
        let of = &world.judge.source.rows[row];
        if rng.u32(0..4) == 0 {
            // A refresh: the source does not change.
            self.note_write(|| format!("refreshes {}", of.key));
            let done = space.invalidate(&of.key, "refresh").await.map(|_| None);
            return self.written(done, world.now(), &[], Acknowledge::Master, || Scope::Key(of.key.clone()));
        }
        let takes_turns = world.plan.evict_every_ms > 0;
        if takes_turns && !world.desk.take_turn(row) {
            return;
        }
        // Who makes a value of the one before it has seen that.
        let by_delta = world.plan.updates == Updates::Delta && rng.u32(0..4) > 0;
        if by_delta {
            let _ = self.load(row, &Wish::usual(), 1, 1).await;
        }
        let (began, changed) = (world.now(), world.judge.source.write(&[row]));
        let version = changed[0].1;
        let most = [[30, 300], [3, 30]][usize::from(by_delta)][rng.usize(0..2)];
        pass(rng.u64(0..most)).await;
        world.nodes[self.node].gate().await;
        self.note_write(|| format!("puts {} at {version:?} if that is new", of.key));
        let (level, value) = (any_level(rng), Value { version: version.0 });
        let options = self.options(row, level);
        let updated = if by_delta { self.update(&space, &of.key, version, &options).await } else { Ok(None) };
        let done = match updated {
            Ok(None) => {
                let done = space.put_versioned(&of.key, version, value, &options).await;
                self.note_write(|| format!("has put {}: {done:?}", of.key));
                done.map(|outcome| match outcome {
                    PutOutcome::Stored(written) => Some(written.token),
                    PutOutcome::Outdated => None,
                })
            }
            updated => updated,
        };
        let acked = done.is_ok() && !self.died();
        self.written(done, began, &changed, level, || Scope::Key(of.key.clone()));
        if takes_turns {
            if !acked {
                pass(1_000).await;
            }
            world.desk.end_turn(row);
        }
    }

    /// Makes a value from the one before it. No token: it was not there, or somebody else was faster, and a whole value has to
    /// be put.
    async fn update(
        &self,
        space: &TypedCache<Value>,
        key: &Key,
        version: Version,
        options: &WriteOptions,
    ) -> Result<Option<WriteToken>, WriteError> {
        let updated = space.update(key, &Growth::to(version), options).await;
        self.note_write(|| format!("has updated {key} to {version:?}: {updated:?}"));
        Ok(match updated? {
            UpdateOutcome::Stored(written) => Some(written.token),
            _ => None,
        })
    }

    fn options(&self, row: usize, acknowledge: Acknowledge) -> WriteOptions {
        let tags = vec![self.world.judge.source.rows[row].tag.clone()];
        WriteOptions { tags, acknowledge, ..WriteOptions::default() }
    }

    async fn invalidate(&self, scope: Scope, publishes: bool, rng: &mut fastrand::Rng) {
        let world = &self.world;
        let mut scopes = vec![scope];
        if rng.u32(0..10) == 0 {
            scopes.push(Scope::Tag(tag(rng.usize(0..TAGS))));
        }
        let mut written: Vec<usize> =
            scopes.iter().flat_map(|scope| world.judge.source.written_by(scope)).collect();
        written.sort_unstable();
        written.dedup();
        let changed = world.judge.source.write(&written);
        let began = world.now();
        let kind = if publishes { EventKind::new(KIND) } else { EventKind::MANUAL_INVALIDATION };
        let id = format!("{}.{}.{began}", self.node, rng.u32(..));
        let level = any_level(rng);
        let mut draft = EventDraft::new(kind, id.clone()).acknowledge(level);
        draft.scopes = scopes.clone();
        self.note_write(|| {
            let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
            format!("invalidates {}: {changed:?}", scopes.join(", "))
        });
        let audience = audience(world, self.node);
        let done = self.cache.publish(draft).await.map(|written| Some(written.token));
        if done.is_ok() && publishes && !self.died() {
            world.desk.published(Published { by: self.node, id, at_ms: began, audience });
        }
        let mut scopes = scopes.into_iter();
        let first = scopes.next().unwrap_or(Scope::All);
        let failed = done.is_err() || self.died();
        self.written(done, began, &changed, level, || first);
        if failed {
            scopes.for_each(|scope| self.give_up(scope));
        }
    }

    /// Tells the judge, or notes who goes on trying.
    fn written(
        &self,
        done: Result<Option<WriteToken>, WriteError>,
        began: u64,
        changed: &[(usize, Version)],
        level: Acknowledge,
        scope: impl FnOnce() -> Scope,
    ) {
        if let Ok(token) = &done
            && !self.died()
        {
            self.note_write(|| format!("has it acknowledged ({level:?}): {changed:?}"));
            self.world.with(|state, now| self.world.judge.acked(changed, began, &state.server, now));
            if level == Acknowledge::Barrier {
                self.world.judge.barrier_passed(changed, began, self.world.now());
            }
            if matches!(level, Acknowledge::Replicated(_)) {
                self.world.judge.replicated(changed, token.as_ref(), began, self.world.now());
            }
            self.hand_out(token.as_ref(), changed);
            return;
        }
        self.note_write(|| format!("has no acknowledgement: {done:?}"));
        self.give_up(scope());
    }

    /// Gives a token to whoever wants to see what was written with it.
    fn hand_out(&self, token: Option<&WriteToken>, changed: &[(usize, Version)]) {
        let (Some(token), Some(&(row, version))) = (token, changed.first()) else { return };
        // The version that a store has lost with its data may come back older: no token answers for that.
        if self.world.judge.source.rows[row].style != Style::Versioned {
            self.world.desk.token(row, version, token);
        }
    }

    fn give_up(&self, scope: Scope) {
        if self.died() {
            self.world.desk.orphan(scope);
        } else {
            self.world.desk.unacked(self.node, scope);
        }
    }

    fn note_write(&self, what: impl FnOnce() -> String) {
        self.world.note(|| format!("{} {}", self.name(), what()));
    }
}

/// The nodes that hear events now, other than the one who speaks.
fn audience(world: &World, by: usize) -> Vec<(usize, u64)> {
    let listens = |node: usize| {
        let (life, cache) = world.nodes[node].cache()?;
        (node != by && cache.health().live).then_some((node, life))
    };
    (0..world.nodes.len()).filter_map(listens).collect()
}

/// A few rows are asked for as often as all the others: two nodes are to meet at one key, and few keys alone would hide
/// what is lost.
fn any_row(rows: usize, rng: &mut fastrand::Rng) -> usize {
    if rng.bool() { rng.usize(0..6) * 11 % rows } else { rng.usize(0..rows) }
}

fn any_level(rng: &mut fastrand::Rng) -> Acknowledge {
    match rng.u32(0..10) {
        0 => Acknowledge::Barrier,
        1 => Acknowledge::Replicated(1),
        _ => Acknowledge::Master,
    }
}

fn any_scope(key: &Key, rng: &mut fastrand::Rng) -> Scope {
    let of = key.namespace().clone();
    let pattern = |text: String| Pattern::new(text).ok();
    match rng.u32(0..100) {
        0..50 => Scope::Key(key.clone()),
        50..68 => Scope::Resource { namespace: of, resource: key.resource().to_owned() },
        68..80 => Scope::Tag(tag(rng.usize(0..TAGS))),
        80..85 => Scope::Namespace(namespace([Style::Aside, Style::Strict][rng.usize(0..2)])),
        85..97 => {
            let text = match rng.u32(0..3) {
                0 => format!("*{}", &key.resource()[1..]),
                1 => format!("v={}", rng.u32(1..3)),
                _ => "*".into(),
            };
            pattern(text).map_or(Scope::Key(key.clone()), |pattern| Scope::Pattern { namespace: of, pattern })
        }
        _ => Scope::All,
    }
}
