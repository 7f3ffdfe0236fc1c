//! How often a key came of late, roughly: a count-min sketch that ages.
//!
//! Cormode and Muthukrishnan, "An Improved Data Stream Summary: The Count-Min Sketch and its Applications",
//! 2005; the halving is the "reset" of Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache
//! Admission Policy", ACM Transactions on Storage 2017. Four rows of 4-bit counters, two bytes for each column.
//! Only the lowest of a key's counters rise ("conservative update": Estan and Varghese, "New Directions in
//! Traffic Measurement and Accounting", SIGCOMM 2002), which makes collisions far rarer at no cost.

/// Columns at least: in a narrow sketch collisions drown what is seldom.
const COLUMNS_MIN: usize = 1_024;
/// All counters are halved after so many additions for each resident …
const ADDITIONS_PER_RESIDENT: usize = 10;
/// … or for this many residents, if there are fewer.
const RESIDENTS_MIN: usize = 128;
/// The largest count.
const COUNT_MAX: u16 = 15;

/// Odd factors, one for each row.
const FACTORS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca6b, 0xc2b2_ae35, 0x27d4_eb2f];

/// 32 bits of a 64-bit hash for [`Sketch`] and [`Ghost`](crate::ghost::Ghost). Both halves take part, as the
/// shards of a store and the samples of a tuner hold some bits constant.
#[inline]
pub(crate) fn print_of(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Four columns for three residents: with fewer, an admission by counts loses up to nine points of hit ratio.
fn columns_for(residents: usize) -> usize {
    residents.saturating_add(residents / 3)
}

/// Counts up to 15 for prints.
#[derive(Debug)]
pub(crate) struct Sketch {
    /// Column by column; row r in the r-th four bits.
    columns: Vec<u16>,
    additions: usize,
}

impl Sketch {
    /// Small; [`fit`](Self::fit) doubles it, and meets what the hint (entries) needs exactly.
    pub(crate) fn new(capacity_hint: usize) -> Self {
        let mut columns = columns_for(capacity_hint);
        while columns >= 2 * COLUMNS_MIN {
            columns = columns.div_ceil(2);
        }
        Self { columns: vec![0; columns.max(COLUMNS_MIN)], additions: 0 }
    }

    /// Doubles until it is wide enough. What was counted stays: column i becomes 2i and 2i+1, which is where the
    /// keys of i go.
    pub(crate) fn fit(&mut self, residents: usize) {
        while self.columns.len() < columns_for(residents) {
            self.columns = self.columns.iter().flat_map(|&column| [column, column]).collect();
        }
    }

    #[inline]
    fn place(&self, print: u32, row: usize) -> usize {
        // The multiplication mixes upwards, so its high bits choose.
        let mixed = (print ^ (print >> 15)).wrapping_mul(FACTORS[row]);
        let mixed = (mixed ^ (mixed >> 16)).wrapping_mul(FACTORS[(row + 1) & 3]);
        ((u64::from(mixed) * self.columns.len() as u64) >> 32) as usize
    }

    /// Counts `times` more, for a cache of so many residents.
    pub(crate) fn add(&mut self, print: u32, times: u8, residents: usize) {
        if times == 0 {
            return;
        }
        let target = (u16::from(self.count(print)) + u16::from(times)).min(COUNT_MAX);
        for row in 0..4 {
            let place = self.place(print, row);
            let shift = 4 * row;
            let column = self.columns[place];
            let count = (column >> shift) & COUNT_MAX;
            let more = target.max(count) - count;
            self.columns[place] = column + (more << shift);
        }
        self.additions += usize::from(times);
        if self.additions >= ADDITIONS_PER_RESIDENT * residents.max(RESIDENTS_MIN) {
            self.age();
        }
    }

    /// How often the print came, at least.
    pub(crate) fn count(&self, print: u32) -> u8 {
        let counts = (0..4).map(|row| (self.columns[self.place(print, row)] >> (4 * row)) & COUNT_MAX);
        counts.min().unwrap_or(0) as u8
    }

    /// Halves everything.
    fn age(&mut self) {
        for column in &mut self.columns {
            *column = (*column >> 1) & 0x7777;
        }
        self.additions /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::mix;

    fn print(key: u64) -> u32 {
        print_of(mix(key + 1))
    }

    #[test]
    fn counts_are_never_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(0);
        for key in 0..1_000 {
            sketch.add(print(key), (key % 4) as u8, 1_000);
        }
        assert!((0..1_000).all(|key| u64::from(sketch.count(print(key))) >= key % 4));
        let strangers = (10_000..20_000).filter(|&key| sketch.count(print(key)) > 1).count();
        assert!(strangers < 1_000, "{strangers} of 10,000 strangers");
        sketch.add(print(3), 200, 1_000);
        assert_eq!(sketch.count(print(3)), 15);
    }

    #[test]
    fn growing_keeps_what_was_counted() {
        let mut sketch = Sketch::new(0);
        for key in 0..200 {
            sketch.add(print(key), 5, 1_000);
        }
        sketch.fit(8_000);
        assert!((0..200).all(|key| sketch.count(print(key)) >= 5));
        assert_eq!(sketch.columns.len(), 16_384);
    }

    #[test]
    fn old_counts_are_halved() {
        let mut sketch = Sketch::new(0);
        sketch.add(print(1), 12, 0);
        for key in 0..1_280 - 12 {
            assert!(sketch.count(print(1)) >= 12);
            sketch.add(print(100 + key), 1, 0);
        }
        assert!(sketch.count(print(1)) < 12);
    }
}
