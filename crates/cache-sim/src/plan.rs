//! What a seed decides before a schedule begins: how many nodes, how bad the weather, which faults and when.

use cache_events::hash64;
use cache_tiered::Updates;

use crate::weather::Weather;

/// Everything about a schedule that is known beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) partitions: u32,
    pub(crate) clients_per_node: usize,
    /// Clients pause so long between two deeds, in milliseconds.
    pub(crate) think: (u64, u64),
    /// Of a thousand deeds so many write.
    pub(crate) writes_permille: u32,
    /// The longest that a load takes, in milliseconds: usually, and when it is slow.
    pub(crate) load_ms: (u64, u64),
    /// Clients and faults end here.
    pub(crate) work_ms: u64,
    pub(crate) ttl_ms: u64,
    pub(crate) l1_entries_max: usize,
    /// What hints of puts carry.
    pub(crate) updates: Updates,
    pub(crate) outbox_max: usize,
    pub(crate) log_entries_max: usize,
    pub(crate) groups_max: usize,
    pub(crate) inbox_max: usize,
    /// Records leave L2 for room about so often, in milliseconds; 0 = never. The version of a record goes with it, so
    /// versioned puts to one key take turns then.
    pub(crate) evict_every_ms: u64,
    /// Hints that a node takes in one go.
    pub(crate) hint_batch_max: usize,
    /// Entries in one answer to a sync.
    pub(crate) sync_entries_max: u32,
    pub(crate) grain: u64,
    pub(crate) weather: Weather,
    pub(crate) faults: Vec<Planned>,
}

/// A fault with its time.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) at_ms: u64,
    pub(crate) for_ms: u64,
    pub(crate) fault: Fault,
}

/// What can go wrong besides the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node and the server do not hear each other.
    Partition { node: usize },
    /// A node's requests are lost; hints still come.
    Mute { node: usize },
    /// Answers and hints are lost; requests arrive.
    Deaf { node: usize },
    /// What goes over the control connections of a node is lost, and hints; the data connections work.
    NoControl { node: usize },
    /// Hints are lost and the subscription looks well.
    HalfOpen { node: usize },
    /// Connections of a node are refused, and its subscription ends.
    Refused { node: usize },
    /// The process stands still.
    Pause { node: usize },
    /// The process dies; another one starts in its place.
    Crash { node: usize },
    /// The machine of a node slept, or its clock was put forward.
    ClockForward { node: usize, ms: u64 },
    /// The wall clock of a node was put back.
    WallBack { node: usize, ms: u64 },
    /// The server answers nothing and loses nothing.
    Stop,
    /// The server dies, and comes back with all it had.
    Restart,
    /// The server dies, and comes back as it was a while ago.
    OldSnapshot { age_ms: u64 },
    /// The server dies, and comes back empty.
    Emptied,
    /// The replica takes over, as it was when the replication broke.
    Failover { lag_ms: u64 },
    /// The same, while nobody can ask what the new master knows: only the data connections work for a while.
    BlindFailover { lag_ms: u64 },
    /// The same, and later the old master is the master again. With clocks that are behind all epochs, perhaps.
    ThereAndBack { lag_ms: u64, clocks_behind: bool },
    /// The replica takes over and the old master never notices: later callers are led back to it, with its history as it was
    /// and the incarnation that it had.
    SwitchedBack { lag_ms: u64 },
    /// Everything is removed, and nobody is disconnected.
    FlushAll,
    /// The meta of all partitions is gone.
    LostMeta,
    /// The same again and again, one new epoch after the other, while answers are late and a node that gives them up at
    /// once, for its clock hops, asks anew.
    ///
    /// With a clock that is behind all epochs, perhaps.
    Epochs { node: usize, clock_behind: bool },
    /// The clock of a node hops forward again and again.
    ClockHops { node: usize },
    /// The log of all partitions is gone.
    LostLog,
    /// The log keeps so many entries.
    Trimmed { keep: usize },
    /// The server's clock is put forward (or back).
    ServerClock { ms: i64 },
    /// The same, and later it is set right again.
    ServerClockAstray { ms: i64 },
    /// Records are damaged.
    Spoilt { cut: bool },
    /// The last entry of the log is of a version that nobody can read.
    Unreadable,
    /// A slot moves: invalidations take two steps.
    SlotMoves,
    /// Messages take much longer.
    Slow { times: u64 },
}

impl Plan {
    /// What the seed says.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = rng(seed, "plan");
        let nodes = rng.usize(2..=5);
        let work_ms = rng.u64(5_000..=10_000);
        let bad = rng.u32(0..4);
        let pick = |rng: &mut fastrand::Rng, of: &[u32]| of[rng.usize(0..of.len())];
        let weather = Weather {
            delay: [(0, 1), (0, 3), (1, 8), (10, 30)][rng.usize(0..4)],
            lost_permille: if bad >= 2 { pick(&mut rng, &[0, 5, 30]) } else { 0 },
            hints_lost_permille: pick(&mut rng, &[0, 20, 200, 600]),
            repeated_permille: pick(&mut rng, &[0, 50, 200]),
            garbled_permille: pick(&mut rng, &[0, 0, 10]),
            late_permille: if bad >= 1 { pick(&mut rng, &[5, 50, 150]) } else { 0 },
            late_ms: [40, 300, 1_500][rng.usize(0..3)],
            late_for_all: 0,
            posthumous_permille: if bad >= 2 { pick(&mut rng, &[0, 5, 20]) } else { 0 },
            slow: 1,
        };
        let count = rng.usize(0..=8);
        let mut faults: Vec<Planned> = (0..count).map(|_| Planned::any(&mut rng, nodes, work_ms)).collect();
        faults.extend(Planned::of_the_clock(seed, work_ms));
        faults.extend(Planned::of_the_blind(seed, work_ms));
        faults.sort_by_key(|planned| planned.at_ms);
        Self {
            seed,
            nodes,
            partitions: [1, 1, 2, 3][rng.usize(0..4)],
            clients_per_node: rng.usize(1..=3),
            think: [(2, 20), (5, 60), (20, 120)][rng.usize(0..3)],
            writes_permille: pick(&mut rng, &[60, 150, 400]),
            load_ms: [(2, 40), (10, 300), (20, 1_500)][rng.usize(0..3)],
            work_ms,
            ttl_ms: [60_000, 60_000, 2_500][rng.usize(0..3)],
            l1_entries_max: [1_000, 1_000, 8][rng.usize(0..3)],
            updates: [Updates::Invalidate, Updates::Value, Updates::ValueEverywhere, Updates::Delta]
                [rng.usize(0..4)],
            outbox_max: [1_000, 2][rng.usize(0..2)],
            log_entries_max: [100_000, 200, 12][rng.usize(0..3)],
            groups_max: [10_000, 10_000, 3][rng.usize(0..3)],
            inbox_max: [8_192, 64, 6][rng.usize(0..3)],
            hint_batch_max: [256, 1][rng.usize(0..2)],
            evict_every_ms: [0, 0, 0, 150, 600][rng.usize(0..5)],
            sync_entries_max: pick(&mut rng, &[1_000, 3]),
            grain: [1, 4, 10][rng.usize(0..3)],
            weather,
            faults,
        }
    }

    /// A source of chance of its own for each purpose, so that one more draw here changes nothing there.
    pub(crate) fn rng(&self, purpose: &str) -> fastrand::Rng {
        rng(self.seed, purpose)
    }
}

fn rng(seed: u64, purpose: &str) -> fastrand::Rng {
    fastrand::Rng::with_seed(hash64([&seed.to_be_bytes()[..], purpose.as_bytes()]))
}

impl Planned {
    fn any(rng: &mut fastrand::Rng, nodes: usize, work_ms: u64) -> Self {
        let node = rng.usize(0..nodes);
        let lag_ms = [0, 30, 200, 800][rng.usize(0..4)];
        let hour = 3_600_000;
        let fault = match rng.u32(0..43) {
            0..=2 => Fault::Partition { node },
            3 => Fault::Mute { node },
            4 => Fault::Deaf { node },
            5..=6 => Fault::HalfOpen { node },
            7 => Fault::Refused { node },
            8..=9 => Fault::Pause { node },
            10..=11 => Fault::Crash { node },
            12 => Fault::ClockForward { node, ms: [700, 5_000, hour][rng.usize(0..3)] },
            13 => Fault::WallBack { node, ms: [700, hour][rng.usize(0..2)] },
            14..=15 => Fault::Stop,
            16 => Fault::Restart,
            17 => Fault::OldSnapshot { age_ms: [500, 2_000][rng.usize(0..2)] },
            18 => Fault::Emptied,
            19..=22 => Fault::Failover { lag_ms },
            23 => Fault::ThereAndBack { lag_ms, clocks_behind: rng.bool() },
            24 => Fault::FlushAll,
            25 => Fault::LostMeta,
            26 => Fault::LostLog,
            27 => Fault::Trimmed { keep: rng.usize(0..4) },
            28 => Fault::ServerClock { ms: [-3_600_000, -900, 900, 3_600_000][rng.usize(0..4)] },
            29 => Fault::Spoilt { cut: rng.bool() },
            30 => Fault::Unreadable,
            31..=32 => Fault::SlotMoves,
            33..=34 => Fault::Epochs { node, clock_behind: rng.bool() },
            35..=36 => Fault::ClockHops { node },
            37 => Fault::SwitchedBack { lag_ms },
            38 => Fault::Trimmed { keep: 0 },
            39..=40 => Fault::NoControl { node },
            41 => Fault::SlotMoves,
            _ => Fault::Slow { times: [5, 20, 60][rng.usize(0..3)] },
        };
        let mut for_ms = [rng.u64(20..400), rng.u64(400..2_000), rng.u64(2_000..4_000)][rng.usize(0..3)];
        if fault == Fault::SlotMoves {
            for_ms += 2_000;
        }
        Self { at_ms: rng.u64(300..work_ms - 500), for_ms, fault }
    }

    /// In one schedule of twelve the server's clock goes astray. Drawn apart, so that the others stay what they are.
    fn of_the_clock(seed: u64, work_ms: u64) -> Option<Self> {
        let mut rng = rng(seed, "clock astray");
        let ms = [-3_600_000, 3_600_000][rng.usize(0..2)];
        let fault = Fault::ServerClockAstray { ms };
        let (at_ms, for_ms) = (rng.u64(1_000..work_ms - 2_000), rng.u64(100..2_000));
        (rng.u32(0..12) == 0).then_some(Self { at_ms, for_ms, fault })
    }

    /// In one schedule of twelve the hello alone can find out that another master has come. Drawn apart as well.
    fn of_the_blind(seed: u64, work_ms: u64) -> Option<Self> {
        let mut rng = rng(seed, "blind failover");
        let fault = Fault::BlindFailover { lag_ms: [300, 800][rng.usize(0..2)] };
        let (at_ms, for_ms) = (rng.u64(500..work_ms - 1_500), rng.u64(100..1_000));
        (rng.u32(0..12) == 0).then_some(Self { at_ms, for_ms, fault })
    }
}
