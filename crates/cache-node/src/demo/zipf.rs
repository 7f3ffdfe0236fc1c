//! Which of `n` things is drawn next, by Zipf's law.

/// Draws ranks with probability proportional to `1 / rank^exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=n.max(1)).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self { cumulative: weights.collect() }
    }

    /// A rank from 0, the most popular first.
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let total = self.cumulative[self.cumulative.len() - 1];
        let point = random.f64() * total;
        self.cumulative.partition_point(|&sum| sum < point).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_in_the_proportions_of_the_law() {
        let (zipf, mut random) = (Zipf::new(100, 1.0), fastrand::Rng::with_seed(7));
        let mut seen = [0_u32; 100];
        (0..200_000).for_each(|_| seen[zipf.draw(&mut random)] += 1);
        let ratio = f64::from(seen[0]) / f64::from(seen[9]);
        assert!((8.0..12.0).contains(&ratio), "rank 1 comes ten times as often as rank 10, not {ratio}");
        assert!(seen.iter().all(|&count| count > 0));
    }
}
