//! Who left a short while ago: fingerprints without their entries.
//!
//! Buckets of four words, each a fingerprint of 12 bits and the time it left in 4. A new one overwrites the
//! oldest of its bucket; a word counts for eight ticks, which together are one turnover of what the ghost
//! remembers. Two bytes for each entry remembered. A stranger is taken for a return with a probability of
//! about 4 in 4,096.

const PER_BUCKET: usize = 4;
/// A word is valid for so many ticks.
const LIFE: u16 = 8;
/// Times are modulo this; 0 in a word's time bits is a time like others, an all-zero word is empty.
const TIMES: u16 = 16;

/// A bounded set of prints that forgets.
#[derive(Debug, Default)]
pub(crate) struct Ghost {
    /// Fingerprint (never 0) in the high 12 bits.
    words: Vec<u16>,
    tick: u16,
    noted: usize,
}

impl Ghost {
    /// Room for so many; doubles, and what is remembered stays (twice, in both buckets where it may be looked
    /// for).
    #[inline]
    pub(crate) fn fit(&mut self, remembered: usize) {
        let buckets = remembered.div_ceil(PER_BUCKET).max(4);
        if self.words.len() * 3 / 2 < buckets * PER_BUCKET {
            self.grow(buckets);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, buckets: usize) {
        if self.words.is_empty() {
            self.words = vec![0; buckets * PER_BUCKET];
        }
        // Half as many again may share the buckets: numbers of residents go up and down a little.
        while self.words.len() * 3 / 2 < buckets * PER_BUCKET {
            self.words = self
                .words
                .chunks_exact(PER_BUCKET)
                .flat_map(|bucket| [bucket, bucket])
                .flatten()
                .copied()
                .collect();
        }
    }

    #[inline]
    fn bucket(&self, print: u32) -> (usize, u16) {
        let mixed = print.wrapping_mul(0x9e37_79b1);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca77);
        let buckets = (self.words.len() / PER_BUCKET) as u64;
        let bucket = ((u64::from(mixed) * buckets) >> 32) as usize;
        // From bits that choose the bucket least.
        let fingerprint = (mixed ^ (print >> 20)) as u16 & 0xfff;
        (bucket * PER_BUCKET, fingerprint.max(1) << 4)
    }

    fn age(&self, word: u16) -> u16 {
        self.tick.wrapping_sub(word & (TIMES - 1)) & (TIMES - 1)
    }

    /// Remembers one that left. `life` is how many more may leave until it is forgotten.
    #[inline]
    pub(crate) fn note(&mut self, print: u32, life: usize) {
        if self.words.is_empty() {
            return;
        }
        self.noted += 1;
        if self.noted * usize::from(LIFE) >= life {
            self.noted = 0;
            self.advance();
        }
        let (at, fingerprint) = self.bucket(print);
        let tick = self.tick;
        // The same one, else an empty one, else the oldest. Without branches, which could not be foretold.
        let worth = |word: u16| {
            let age = if word == 0 { TIMES } else { tick.wrapping_sub(word & (TIMES - 1)) & (TIMES - 1) };
            if word & !(TIMES - 1) == fingerprint { 2 * TIMES } else { age }
        };
        let bucket = &mut self.words[at..at + PER_BUCKET];
        let worths = (0..PER_BUCKET).map(|index| worth(bucket[index]) * PER_BUCKET as u16 + index as u16);
        let place = usize::from(worths.fold(0, u16::max)) % PER_BUCKET;
        bucket[place] = fingerprint | tick;
    }

    /// Whether it left a short while ago; forgets it.
    #[inline]
    pub(crate) fn take(&mut self, print: u32) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let (at, fingerprint) = self.bucket(print);
        for index in at..at + PER_BUCKET {
            let word = self.words[index];
            if word & !(TIMES - 1) == fingerprint {
                self.words[index] = 0;
                return self.age(word) < LIFE;
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    fn advance(&mut self) {
        self.tick = (self.tick + 1) & (TIMES - 1);
        // Words of the time that begins now are a full round old and would look new.
        let tick = self.tick;
        for word in &mut self.words {
            // Written in any case: so it is done for many at once.
            *word = if *word & (TIMES - 1) == tick { 0 } else { *word };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::mix;
    use crate::sketch::print_of;

    fn print(key: u64) -> u32 {
        print_of(mix(key + 1))
    }

    fn remembered(ghost: &mut Ghost, keys: std::ops::Range<u64>) -> usize {
        keys.filter(|&key| ghost.take(print(key))).count()
    }

    #[test]
    fn knows_who_left_once() {
        let mut ghost = Ghost::default();
        ghost.fit(1_000);
        for key in 0..500 {
            ghost.note(print(key), 900);
        }
        assert!(remembered(&mut ghost, 0..500) > 450);
        assert!(remembered(&mut ghost, 0..500) < 5);
        assert!(remembered(&mut ghost, 1_000..11_000) < 30);
    }

    #[test]
    fn forgets_after_a_turnover() {
        let mut ghost = Ghost::default();
        ghost.fit(10_000);
        for key in 0..2_000 {
            ghost.note(print(key), 900);
        }
        assert!(remembered(&mut ghost, 0..900) < 5);
        assert!(remembered(&mut ghost, 1_200..2_000) > 750);
    }

    #[test]
    fn growing_keeps_what_is_remembered() {
        let mut ghost = Ghost::default();
        ghost.fit(100);
        for key in 0..40 {
            ghost.note(print(key), 90);
        }
        let before = {
            let mut copy = Ghost { words: ghost.words.clone(), ..ghost };
            remembered(&mut copy, 0..40)
        };
        let mut ghost = Ghost { words: std::mem::take(&mut ghost.words), ..ghost };
        ghost.fit(300);
        assert!(remembered(&mut ghost, 0..40) >= before);
    }
}
