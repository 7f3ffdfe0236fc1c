//! What the fence costs a hit: hits held against it and hits that are not, in turns.

use std::hint::black_box;

use cache_policy::Sieve;

use super::{Cache, Ours, Pace, value};
use crate::{median, now};

/// The most that it may take of a hit, in nanoseconds.
pub const FENCE_NS_MAX: f64 = 5.0;
const ENTRIES: u64 = 10_000;

/// Nanoseconds of a hit with the fence and without, the median of all rounds each, and of their difference.
pub fn fences(pace: Pace) -> [f64; 3] {
    let cache: Ours<u64, Sieve> = Ours::new(2 * ENTRIES as usize, Sieve::new);
    (0..ENTRIES).for_each(|key| cache.insert(key, value(key)));
    // In another order than they lie.
    let keys: Vec<u64> = (0..ENTRIES).map(|n| n * 7_919 % ENTRIES).collect();
    let lap = |hit: &dyn Fn()| {
        let (began, mut times) = (now(), 0_u64);
        while began.elapsed() < pace.lap {
            hit();
            times += ENTRIES;
        }
        began.elapsed().as_nanos() as f64 / times as f64
    };
    let fenced = || keys.iter().for_each(|key| drop(black_box(cache.fenced(key))));
    let unfenced = || keys.iter().for_each(|key| drop(black_box(cache.unfenced(key))));
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..pace.rounds {
        let (with, without) = (lap(&fenced), lap(&unfenced));
        for (figures, figure) in rounds.iter_mut().zip([with, without, with - without]) {
            figures.push(figure);
        }
    }
    rounds.map(|mut figures| median(&mut figures))
}
