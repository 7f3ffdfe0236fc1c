//! A transport that loses, repeats and reorders hints, that lies, and whose line can be cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use cache_bus::{Description, Hint, HintStream, Missed, RosterRow, SyncAnswer, Transport, TransportError};
use cache_events::{NodeId, Partition, Position, wire};
use tokio::sync::watch;

/// Passes everything on, until told otherwise.
pub struct FaultyTransport {
    inner: Arc<dyn Transport>,
    faults: Arc<Faults>,
    line: watch::Sender<bool>,
}

struct Faults {
    lose_hints: AtomicBool,
    lost: AtomicU64,
    empty_hints: AtomicBool,
    claim_head: AtomicBool,
    /// Of 256 hints: so many are lost, repeated later, or delivered after their successor.
    disorder: AtomicU64,
    random: AtomicU64,
    /// Hints wait.
    held: watch::Sender<bool>,
}

impl Faults {
    /// A step of SplitMix64: deterministic by seed, as far as the order of calls is.
    fn draw(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl FaultyTransport {
    /// A transport without faults yet; `seed` decides which hints suffer.
    pub fn new(inner: Arc<dyn Transport>, seed: u64) -> Self {
        let faults = Faults {
            lose_hints: false.into(),
            lost: AtomicU64::new(0),
            empty_hints: false.into(),
            claim_head: false.into(),
            disorder: AtomicU64::new(0),
            random: AtomicU64::new(seed),
            held: watch::channel(false).0,
        };
        Self { inner, faults: Arc::new(faults), line: watch::channel(true).0 }
    }

    /// Ends all subscriptions and fails every call.
    pub fn cut(&self) {
        self.line.send_replace(false);
    }

    /// Loses all hints, silently; syncs go through.
    pub fn lose_hints(&self, lose: bool) {
        self.faults.lose_hints.store(lose, Ordering::SeqCst);
    }

    /// How many were lost so.
    pub fn lost(&self) -> u64 {
        self.faults.lost.load(Ordering::SeqCst)
    }

    /// A lie: hints come with their positions and do not say what they invalidate. The log is true.
    pub fn empty_hints(&self, empty: bool) {
        self.faults.empty_hints.store(empty, Ordering::SeqCst);
    }

    /// A lie: syncs say that nothing is missing, whatever is.
    pub fn claim_head(&self, claim: bool) {
        self.faults.claim_head.store(claim, Ordering::SeqCst);
    }

    /// Loses, repeats and reorders so many of 256 hints, each.
    pub fn disorder(&self, of_256: u8) {
        self.faults.disorder.store(u64::from(of_256), Ordering::SeqCst);
    }

    /// Keeps all hints back until told otherwise; then they arrive, in their order.
    pub fn hold_hints(&self, hold: bool) {
        self.faults.held.send_replace(hold);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.lose_hints(false);
        self.hold_hints(false);
        self.empty_hints(false);
        self.claim_head(false);
        self.disorder(0);
        self.line.send_replace(true);
    }

    fn check(&self) -> Result<(), TransportError> {
        if *self.line.borrow() {
            return Ok(());
        }
        Err(TransportError::Unavailable { message: "cut by the test".into() })
    }
}

#[async_trait]
impl Transport for FaultyTransport {
    fn partitions(&self) -> u32 {
        self.inner.partitions()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        self.check()?;
        let inner = self.inner.subscribe().await?;
        let (faults, line) = (self.faults.clone(), self.line.subscribe());
        let held = self.faults.held.subscribe();
        Ok(Box::new(FaultyStream {
            inner,
            faults,
            line,
            held,
            late: VecDeque::new(),
            queued: VecDeque::new(),
        }))
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        self.check()?;
        let mut answer = self.inner.sync(partition, node, at, max).await?;
        if self.faults.claim_head.load(Ordering::SeqCst) {
            (answer.head, answer.missed) = (at, Missed::Entries(Vec::new()));
        }
        Ok(answer)
    }

    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        self.check()?;
        self.inner.introduce(node, description).await
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        self.check()?;
        self.inner.roster().await
    }
}

struct FaultyStream {
    inner: Box<dyn HintStream>,
    faults: Arc<Faults>,
    line: watch::Receiver<bool>,
    held: watch::Receiver<bool>,
    /// Hints that were held back.
    late: VecDeque<Hint>,
    /// Hints that come late or once more.
    queued: VecDeque<Hint>,
}

#[async_trait]
impl HintStream for FaultyStream {
    async fn next(&mut self) -> Hint {
        loop {
            let waiting = !self.late.is_empty();
            let hint = tokio::select! {
                biased;
                _ = self.line.wait_for(|up| !up) => return Hint::Closed("cut by the test".into()),
                _ = self.held.wait_for(|held| !held), if waiting => self.late.pop_front(),
                hint = self.inner.next() => Some(hint),
            };
            let Some(mut hint) = hint else { continue };
            if *self.held.borrow() {
                self.late.push_back(hint);
                continue;
            }
            let Hint::Event { payload, .. } = &mut hint else { return hint };
            if self.faults.empty_hints.load(Ordering::SeqCst)
                && let Ok(mut event) = wire::decode(payload)
            {
                event.scopes.clear();
                *payload = wire::encode(&event).expect("it was longer before").into();
            }
            if self.faults.lose_hints.load(Ordering::SeqCst) {
                self.faults.lost.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            let (fate, of_256) = (self.faults.draw(), self.faults.disorder.load(Ordering::SeqCst));
            if fate & 0xFF < of_256 {
                continue;
            }
            if fate >> 8 & 0xFF < of_256 {
                self.queued.push_back(hint.clone());
            }
            if fate >> 16 & 0xFF < of_256 {
                self.queued.push_back(hint);
                continue;
            }
            if fate >> 24 & 1 == 1
                && let Some(late) = self.queued.pop_front()
            {
                self.queued.push_back(hint);
                return late;
            }
            return hint;
        }
    }
}
