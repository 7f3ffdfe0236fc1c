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

/// Odd factors that mix a print into the columns of its rows.
const FACTORS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// 32 bits of a 64-bit hash for [`Sketch`] and [`Ghost`](crate::ghost::Ghost). Both halves take part, as the
/// shards of a store and the samples of a tuner hold some bits constant.
#[inline]
pub(crate) fn print_of(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Three columns for each resident. Between two ageings up to ten keys for each resident pass, and where they
/// collide, what came twice cannot be told from what came once: half as many columns cost the rules that
/// compare counts up to six points of hit ratio on a trace of many seldom keys.
fn columns_for(residents: usize) -> usize {
    residents.saturating_mul(3)
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

    /// The column of a print in each row.
    #[inline]
    fn places(&self, print: u32) -> [usize; 4] {
        // A multiplication mixes upwards, so high bits come down before the next.
        let mixed = u64::from(print).wrapping_mul(FACTORS[0]);
        let one = (mixed ^ (mixed >> 32)).wrapping_mul(FACTORS[1]);
        let two = (one ^ (one >> 29)).wrapping_mul(FACTORS[2]);
        let columns = self.columns.len() as u64;
        let place = |mixed: u64| (((mixed & 0xffff_ffff) * columns) >> 32) as usize;
        [place(one), place(one >> 32), place(two), place(two >> 32)]
    }

    /// The counters at these columns, a row each.
    #[inline]
    fn counters(&self, places: [usize; 4]) -> [u16; 4] {
        std::array::from_fn(|row| (self.columns[places[row]] >> (4 * row)) & COUNT_MAX)
    }

    /// Counts `times` more, for a cache of so many residents.
    pub(crate) fn add(&mut self, print: u32, times: u8, residents: usize) {
        if times == 0 {
            return;
        }
        let places = self.places(print);
        let counters = self.counters(places);
        let target = (least(counters) + u16::from(times)).min(COUNT_MAX);
        for (row, (place, count)) in places.into_iter().zip(counters).enumerate() {
            self.columns[place] += target.saturating_sub(count) << (4 * row);
        }
        self.additions += usize::from(times);
        if self.additions >= ADDITIONS_PER_RESIDENT * residents.max(RESIDENTS_MIN) {
            self.age();
        }
    }

    /// How often the print came, at least.
    pub(crate) fn count(&self, print: u32) -> u8 {
        least(self.counters(self.places(print))) as u8
    }

    /// Halves everything.
    fn age(&mut self) {
        for column in &mut self.columns {
            *column = (*column >> 1) & 0x7777;
        }
        self.additions /= 2;
    }
}

fn least([a, b, c, d]: [u16; 4]) -> u16 {
    a.min(b).min(c.min(d))
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
        assert_eq!(sketch.columns.len(), 32_768);
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
