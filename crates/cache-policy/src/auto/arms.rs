//! The four settings that the core can have. What each is for is told by the traffic that it wins on.

/// How newcomers come in and who gets a second chance. A change of arm changes rules only: nobody moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Arm {
    /// Into main only with a clear lead over main's victim. For loops, scans and popularity that stays. It does
    /// the least that cannot be undone, so it rules at the start.
    Lead,
    /// Into main after two hits, or on a return (S3-FIFO). For most traffic.
    Twice,
    /// Into main with any lead over main's victim, after a long stay in small. For bursts over a stable core.
    Duel,
    /// Into main at once (CLOCK). For recency and moving popularity.
    All,
}

impl Arm {
    pub(super) const ALL: [Self; 4] = [Self::Lead, Self::Twice, Self::Duel, Self::All];
    pub(super) const START: Self = Self::Lead;

    pub(super) fn of_index(index: usize) -> Self {
        Self::ALL[index & 3]
    }

    /// The share of *small*, in parts of a thousand of the weight.
    pub(super) fn small_permille(self) -> u64 {
        match self {
            Self::Lead => 10,
            Self::Twice => 100,
            Self::Duel => 200,
            Self::All => 0,
        }
    }

    /// By how much the newcomer must have been seen more often than main's victim; `None` = no duel.
    pub(super) fn duel_lead(self) -> Option<u8> {
        match self {
            // The newcomer's count holds its present access, the victim's does not yet: hence two.
            Self::Lead => Some(2),
            Self::Duel => Some(1),
            Self::Twice | Self::All => None,
        }
    }

    /// Hits in small that lead into main, where there is no duel.
    pub(super) fn hits_for_main(self) -> u8 {
        match self {
            Self::All => 1,
            Self::Lead | Self::Twice | Self::Duel => 2,
        }
    }

    /// Whether a second chance in main costs all hits instead of one.
    pub(super) fn spends_all(self) -> bool {
        self == Self::All
    }
}

/// What the tuner has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) arm: Arm,
    /// The arm has won enough to pay for what cannot be undone: under `Twice`, who is in main by the leave of
    /// another arm goes before those of small. Until then it stays, should the change prove a mistake.
    pub(super) settled: bool,
}

/// In a ruling's code: settled.
const SETTLED: u8 = 4;

impl Ruling {
    /// One byte for it.
    pub(super) fn code(self) -> u8 {
        self.arm as u8 | if self.settled { SETTLED } else { 0 }
    }

    pub(super) fn of_code(code: u8) -> Self {
        Self { arm: Arm::of_index(usize::from(code)), settled: code & SETTLED != 0 }
    }
}
