//! A histogram of ticks with buckets that grow with the value: small, exact in count, within an eighth in value.
//!
//! Values below [`SUB_BUCKETS`] have buckets of their own; above, each power of two is divided into as many
//! equal buckets. So a quantile is right to within 1/8 of itself, from single ticks to the whole range of 64 bits.

/// Buckets in each power of two.
pub const SUB_BUCKETS: u64 = 1 << SUB_BITS;
const SUB_BITS: u32 = 3;
/// Buckets in all.
pub const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// How often values of each size occurred.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u32; BUCKETS],
    count: u64,
    most: u64,
}

impl Histogram {
    /// No value yet.
    pub const fn new() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, most: 0 }
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.most) = (0, 0);
    }

    /// Adds a value. A bucket that is full stays so; 2³² values are more than a measurement has.
    pub fn record(&mut self, value: u64) {
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.most = self.most.max(value);
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.most
    }

    /// The value that `per_mille` of 1000 do not exceed: the upper end of its bucket, and no more than the largest
    /// value. 0 if there is no value.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return last_of(index).min(self.most);
            }
        }
        self.most
    }

    /// How many values there are in each power of two that has some: `(n, count)` for values from 2ⁿ to 2ⁿ⁺¹ - 1,
    /// with 0 counted to n = 0.
    pub fn octaves(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..64).map(|octave| (octave, self.in_octave(octave))).filter(|(_, count)| *count != 0)
    }

    fn in_octave(&self, octave: u32) -> u64 {
        let within = |index: &usize| last_of(*index).max(1).ilog2() == octave;
        (0..BUCKETS).filter(within).map(|index| u64::from(self.buckets[index])).sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket_of(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    // The leading one of `value >> shift` counts the octave once more, which makes room for the first buckets.
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index;
    }
    let shift = index / SUB_BUCKETS - 1;
    let first = (SUB_BUCKETS + index % SUB_BUCKETS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn buckets_follow_one_another_without_gap_or_overlap() {
        let mut next = Some(0_u64);
        for index in 0..BUCKETS {
            let first = next.expect("no bucket lies beyond the last value");
            assert_eq!(bucket_of(first), index);
            let last = last_of(index);
            assert_eq!(bucket_of(last), index);
            assert!(last - first <= first / SUB_BUCKETS, "{first} to {last}");
            next = last.checked_add(1);
        }
        assert_eq!(next, None, "the last bucket ends with the last value");
    }

    #[test]
    fn quantiles_are_within_an_eighth_above() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|value| histogram.record(value));
        for (per_mille, exact) in [(500, 5000), (990, 9900), (999, 9990)] {
            let found = histogram.quantile(per_mille);
            assert!((exact..=exact + exact / 8).contains(&found), "{per_mille}: {found}");
        }
        assert_eq!(
            (histogram.quantile(1000), histogram.max(), histogram.count()),
            (10_000, 10_000, 10_000)
        );
    }

    #[test]
    fn one_outlier_is_the_maximum_and_not_the_99th_percentile() {
        let mut histogram = Histogram::new();
        (0..199).for_each(|_| histogram.record(3));
        histogram.record(u64::MAX);
        assert_eq!((histogram.quantile(500), histogram.quantile(990)), (3, 3));
        assert_eq!((histogram.quantile(1000), histogram.max()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn an_empty_histogram_has_zeros() {
        let histogram = Histogram::new();
        assert_eq!((histogram.quantile(500), histogram.max(), histogram.count()), (0, 0, 0));
        assert_eq!(histogram.octaves().count(), 0);
    }

    #[test]
    fn merging_is_recording_all_in_one() {
        let (mut one, mut two, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in (0..1000).map(|i| i * i) {
            if value % 3 == 0 {
                one.record(value);
            } else {
                two.record(value);
            }
            both.record(value);
        }
        one.merge(&two);
        assert_eq!((one.count(), one.max()), (both.count(), both.max()));
        assert_eq!(one.buckets, both.buckets);
        one.clear();
        assert_eq!((one.count(), one.max(), one.quantile(500)), (0, 0, 0));
    }

    #[test]
    fn octaves_hold_every_value_once() {
        let mut histogram = Histogram::new();
        [0, 1, 2, 3, 4, 7, 8, 1 << 40, u64::MAX]
            .into_iter()
            .for_each(|value| histogram.record(value));
        let octaves: Vec<_> = histogram.octaves().collect();
        assert_eq!(octaves, [(0, 2), (1, 2), (2, 2), (3, 1), (40, 1), (63, 1)]);
    }
}
