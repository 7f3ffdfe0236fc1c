//! What a row has shown, as a line of the table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::storm::{MARGIN, Seen};

/// The outcome of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The fault, as the matrix of the documentation names it.
    pub fault: String,
    /// Over what: `standalone`, `replicated`, `sentinel` or `cluster`.
    pub topology: &'static str,
    /// Whether the row holds.
    pub ok: bool,
    /// The stalest read after an acknowledgement, in milliseconds.
    pub worst_staleness_ms: u64,
    /// What it may be, in milliseconds.
    pub bound_ms: u64,
    /// Reads that were judged.
    pub reads: u64,
    /// Whether stale reads were found with the guard taken out; `None` where that was not tried.
    pub control_found: Option<bool>,
    /// What is wrong, if anything.
    #[serde(skip)]
    pub why: Option<String>,
    /// What was measured besides.
    #[serde(skip)]
    pub figures: Vec<String>,
    /// What else was counted.
    #[serde(skip)]
    pub seen: Seen,
}

/// The head of the table.
pub const HEAD: &str = "| fault | topology | holds | worst staleness | bound | reads | writes | not acknowledged | control |\n\
                        |---|---|---|---|---|---|---|---|---|";

impl Outcome {
    /// Whether a read was staler than it may be.
    pub fn is_stale(&self) -> bool {
        self.worst_staleness_ms > self.bound_ms + MARGIN.as_millis() as u64
    }

    /// What was measured besides, as lines of a list.
    pub fn figures(&self) -> impl Iterator<Item = String> {
        self.figures.iter().map(|figure| format!("- {}: {figure}", self.fault))
    }

    /// The row as a line of a table.
    pub fn line(&self) -> String {
        let control = match self.control_found {
            None => "–",
            Some(true) => "found",
            Some(false) => "NOT found",
        };
        let mut line = format!(
            "| {} | {} | {} | {} ms | {} ms | {} | {} | {} | {control} |",
            self.fault,
            self.topology,
            if self.ok { "yes" } else { "NO" },
            self.worst_staleness_ms,
            self.bound_ms,
            self.seen.reads,
            self.seen.acked,
            self.seen.unacked,
        );
        if let Some(why) = &self.why {
            let _ = write!(line, "\n\n{}: {why}\n", self.fault);
        }
        line
    }
}
