//! One figure over time, in a bounded room: each sample of the last while, and of what is older the extremes and the mean
//! of each minute.
//!
//! Points are kept by logical time, which never goes backwards, and told by wall time: when somebody sets the clock, the
//! past moves with it and keeps its shape.

use std::collections::VecDeque;

/// Samples that are kept as they are: at one a second, 85 minutes, which is 1,000 steps of five seconds and the minute that
/// is kept in short already.
pub(crate) const FINE_MAX: usize = 5_100;
/// Minutes that are kept in short: a day.
pub(crate) const COARSE_MAX: usize = 1_440;
/// Milliseconds that the older data is shortened to.
pub(crate) const COARSE_MS: u64 = 60_000;

/// A sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Logical milliseconds.
    pub(crate) at: u64,
    pub(crate) value: f64,
}

/// What is kept of a stretch of time: its extremes with their times, and its mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// Where it begins.
    pub(crate) begin: u64,
    pub(crate) least: Point,
    pub(crate) most: Point,
    sum: f64,
    samples: u32,
}

impl Summary {
    fn of(begin: u64, point: Point) -> Self {
        Self { begin, least: point, most: point, sum: point.value, samples: 1 }
    }

    fn add(&mut self, point: Point) {
        if point.value < self.least.value {
            self.least = point;
        }
        if point.value > self.most.value {
            self.most = point;
        }
        self.sum += point.value;
        self.samples += 1;
    }

    fn join(&mut self, other: &Self) {
        if other.least.value < self.least.value {
            self.least = other.least;
        }
        if other.most.value > self.most.value {
            self.most = other.most;
        }
        self.sum += other.sum;
        self.samples += other.samples;
    }

    /// The mean of what it stands for.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / f64::from(self.samples)
    }
}

/// One figure over time.
#[derive(Debug, Default)]
pub(crate) struct Series {
    fine: VecDeque<Point>,
    coarse: VecDeque<Summary>,
    /// The time of the latest sample that is kept only in its minute.
    shortened: Option<u64>,
}

impl Series {
    /// Takes a sample. One that is not a number, or not later than the last, is left out.
    pub(crate) fn push(&mut self, point: Point) {
        if !point.value.is_finite() || self.fine.back().is_some_and(|last| last.at >= point.at) {
            return;
        }
        if self.coarse.is_empty() {
            // No more than is needed, for a ring would round it up.
            self.fine.reserve_exact(FINE_MAX);
            self.coarse.reserve_exact(COARSE_MAX);
        }
        if self.fine.len() == FINE_MAX {
            self.shortened = self.fine.pop_front().map(|point| point.at);
        }
        self.fine.push_back(point);
        let begin = point.at - point.at % COARSE_MS;
        match self.coarse.back_mut().filter(|last| last.begin == begin) {
            Some(last) => last.add(point),
            None => {
                if self.coarse.len() == COARSE_MAX {
                    self.coarse.pop_front();
                }
                self.coarse.push_back(Summary::of(begin, point));
            }
        }
    }

    /// Forgets what is older, by the minute, also where no new samples push it out.
    pub(crate) fn forget_before(&mut self, at: u64) {
        while let Some(point) = self.fine.pop_front_if(|point| point.at < at) {
            self.shortened = Some(point.at);
        }
        while self.coarse.front().is_some_and(|minute| minute.begin + COARSE_MS <= at) {
            self.coarse.pop_front();
        }
    }

    /// The points from `from` to `to`, both included, oldest first, at most `points` of them (at least 2). Where there are
    /// more, time is cut into stretches of equal length, and each gives its least and its greatest.
    pub(crate) fn range(&self, from: u64, to: u64, points: usize) -> Vec<Point> {
        let all = self.summaries(from, to);
        let samples: usize = all.iter().map(|part| if part.samples > 1 { 2 } else { 1 }).sum();
        if samples <= points {
            return all.iter().flat_map(extremes).collect();
        }
        let stretches = (points / 2).max(1) as u64;
        let (first, last) = (all[0].least.at.min(all[0].most.at), all[all.len() - 1].begin);
        let length = last.saturating_sub(first) / stretches + 1;
        let mut kept: Vec<(u64, Summary)> = Vec::with_capacity(stretches as usize);
        for part in &all {
            let place = part.begin.saturating_sub(first) / length;
            match kept.last_mut().filter(|(at, _)| *at == place) {
                Some((_, stretch)) => stretch.join(part),
                None => kept.push((place, *part)),
            }
        }
        kept.iter().flat_map(|(_, stretch)| extremes(stretch)).collect()
    }

    /// The mean of each step of `step` milliseconds from `from` to `to`, oldest first, told at the beginning of the step;
    /// the latest `points` of them.
    pub(crate) fn steps(&self, from: u64, to: u64, step: u64, points: usize) -> Vec<Point> {
        let mut steps: Vec<Summary> = Vec::new();
        for part in self.summaries(from, to) {
            let begin = part.begin - part.begin % step;
            match steps.last_mut().filter(|last| last.begin == begin) {
                Some(last) => last.join(&part),
                None => steps.push(Summary { begin, ..part }),
            }
        }
        let surplus = steps.len().saturating_sub(points);
        steps.iter().skip(surplus).map(|step| Point { at: step.begin, value: step.mean() }).collect()
    }

    /// What is known from `from` to `to`: minutes while no sample of their time is left, then samples.
    fn summaries(&self, from: u64, to: u64) -> Vec<Summary> {
        // The minute of the latest shortened sample speaks for all its samples.
        let old_until = self.shortened.map_or(0, |at| at - at % COARSE_MS + COARSE_MS);
        let old = self.coarse.iter().take_while(|minute| minute.begin < old_until);
        let old = old.filter(|minute| minute.begin + COARSE_MS > from && minute.begin <= to).copied();
        let from = self.fine.partition_point(|point| point.at < from.max(old_until));
        let fine = self.fine.range(from..).take_while(|point| point.at <= to);
        old.chain(fine.map(|point| Summary::of(point.at, *point))).collect()
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.fine.capacity() * size_of::<Point>() + self.coarse.capacity() * size_of::<Summary>()
    }
}

/// Both extremes in the order of time; one where they are the same sample.
fn extremes(part: &Summary) -> impl Iterator<Item = Point> + use<> {
    let (first, second) =
        if part.least.at <= part.most.at { (part.least, part.most) } else { (part.most, part.least) };
    std::iter::once(first).chain((first.at != second.at).then_some(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(values: impl IntoIterator<Item = f64>) -> Series {
        let mut series = Series::default();
        for (second, value) in values.into_iter().enumerate() {
            series.push(Point { at: 1_000 * (second as u64 + 1), value });
        }
        series
    }

    #[test]
    fn what_few_points_can_tell_is_told_as_it_was() {
        let series = filled([1.0, 5.0, 3.0]);
        let told = series.range(0, u64::MAX, 10);
        assert_eq!(
            told.iter().map(|point| (point.at, point.value)).collect::<Vec<_>>(),
            [(1_000, 1.0), (2_000, 5.0), (3_000, 3.0)]
        );
        assert_eq!(series.range(2_000, 2_999, 10).len(), 1);
        assert!(series.range(4_000, 9_000, 10).is_empty());
    }

    #[test]
    fn a_day_is_kept_by_the_minute_with_its_extremes() {
        // Two days, with one peak early on the second.
        let peak = 100_000;
        let mut series = filled((0..172_800).map(|second| if second == peak { 99.0 } else { 1.0 }));
        let day = series.range(0, u64::MAX, 200);
        assert!(day.len() <= 200, "{}", day.len());
        assert!(day.contains(&Point { at: 1_000 * (peak + 1), value: 99.0 }), "the peak keeps its second");
        let begin = day[0].at;
        assert!((172_800_000 - 86_460_000..=172_800_000 - 86_340_000).contains(&begin), "a day: {begin}");
        // Of the last while each second is there.
        assert_eq!(series.range(172_800_000 - 3_599_000, u64::MAX, 10_000).len(), 3_600);
        assert!(series.bytes() <= 165_000, "{}", series.bytes());
        // Nothing comes any more, and the past goes all the same.
        series.forget_before(172_700_000);
        assert!(series.range(0, u64::MAX, 10_000).iter().all(|point| point.at >= 172_700_000 - COARSE_MS));
        series.forget_before(u64::MAX);
        assert!(series.range(0, u64::MAX, 10).is_empty());
    }

    #[test]
    fn a_thousand_steps_of_five_seconds_and_of_a_minute_are_there() {
        let series = filled((0..86_400).map(|second| f64::from(second / 60)));
        let fives = series.steps(0, u64::MAX, 5_000, 1_000);
        assert_eq!(fives.len(), 1_000);
        assert!(fives.windows(2).all(|pair| pair[1].at - pair[0].at == 5_000));
        let minutes = series.steps(0, u64::MAX, 60_000, 1_000);
        assert_eq!(minutes.len(), 1_000);
        assert!(minutes.windows(2).all(|pair| pair[1].at - pair[0].at == 60_000));
        let middle = &minutes[500];
        assert!((middle.value - (middle.at / 60_000) as f64).abs() < 0.1, "{middle:?}");
    }

    #[test]
    fn what_is_no_number_or_no_later_is_left_out() {
        let mut series = filled([1.0]);
        series.push(Point { at: 1_000, value: 2.0 });
        series.push(Point { at: 500, value: 2.0 });
        series.push(Point { at: 2_000, value: f64::NAN });
        assert_eq!(series.range(0, u64::MAX, 10).len(), 1);
    }

    proptest! {
        #[test]
        fn fewer_points_keep_the_extremes_and_their_order(
            values in prop::collection::vec(-1e6..1e6_f64, 1..12_000),
            points in 2_usize..300,
        ) {
            let series = filled(values.iter().copied());
            let told = series.range(0, u64::MAX, points);
            prop_assert!(told.len() <= points.max(2));
            prop_assert!(told.windows(2).all(|pair| pair[0].at < pair[1].at), "in order, none twice");
            let extremes = |of: &mut dyn Iterator<Item = f64>| {
                of.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)))
            };
            prop_assert_eq!(
                extremes(&mut told.iter().map(|point| point.value)),
                extremes(&mut values.iter().copied())
            );
            // Each point is a sample that there was.
            for point in &told {
                prop_assert_eq!(values[(point.at / 1_000 - 1) as usize], point.value);
            }
        }
    }
}
