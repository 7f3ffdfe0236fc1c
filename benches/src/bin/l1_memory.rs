//! Counts what a cache of the comparison takes beyond its keys and values: `l1_memory ENTRIES`.
//!
//! In a program of its own, so that counting slows down nothing that is timed.

#![allow(
    unsafe_code,
    reason = "a global allocator can only be implemented so; it passes everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use anyhow::{Context, Result};
use edgecache_benches::l1::{FALLS_BEHIND, Value, contestants, value};
use edgecache_benches::simulate::markdown;

/// Bytes of an entry of ours that only coherence needs: place in the log, version of the source, and the fence's
/// version at which it was last judged, a word each.
const STAMP_BYTES: f64 = 24.0;

static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call goes to `System` with the arguments it came with; the counter is an atomic number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size as isize - layout.size() as isize, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let entries: usize = std::env::args().nth(1).context("how many entries?")?.parse()?;
    // Made before, so that only the caches' own bytes are counted. Three times as many as there is room for.
    let pairs: Vec<(u64, Value)> = (0..3 * entries as u64).map(|n| (n, value(n))).collect();
    let in_entry = size_of::<u64>() + size_of::<Value>();
    let title = format!("bytes an entry beyond key and value, {entries} entries");
    let mut lines = vec![
        [title.as_str(), "filled once", "after driving out twice as many", "of it coherence"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut contestants = contestants::<u64>();
    for contestant in &mut contestants {
        let before = LIVE.load(Relaxed);
        contestant.open(entries)?;
        let mut line = vec![contestant.name().to_owned()];
        for portion in [&pairs[..entries], &pairs[entries..]] {
            if line.len() == 2 && contestant.name() == FALLS_BEHIND {
                // It would take minutes.
                line.push("–".to_owned());
                continue;
            }
            contestant.fill(portion);
            let held = contestant.entries().unwrap_or(entries);
            let live = (LIVE.load(Relaxed) - before) as f64;
            line.push(format!("{:.1}", live / held as f64 - in_entry as f64));
        }
        let ours = contestant.name().starts_with("cache-l1/");
        line.push(if ours { format!("{STAMP_BYTES}") } else { "–".to_owned() });
        lines.push(line);
        contestant.close();
    }
    print!("{}", markdown(&lines));
    Ok(())
}
