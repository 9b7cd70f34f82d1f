// SPDX-License-Identifier: GPL-2.0

//! Byte ranges of a file.

use core::ops::RangeInclusive;

/// The closed range `[start, last]`; never empty, so that infinity needs no special case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) last: u64,
}

impl Range {
    /// The whole file and all that may come behind its end.
    pub(crate) const ALL: Self = Self {
        start: 0,
        last: u64::MAX,
    };

    /// As in an interval tree.
    pub(crate) fn interval(&self) -> RangeInclusive<usize> {
        self.start as usize..=self.last as usize
    }

    pub(crate) fn from_interval(interval: RangeInclusive<usize>) -> Self {
        Self {
            start: *interval.start() as u64,
            last: *interval.end() as u64,
        }
    }

    /// How many bytes; for ranges that pages can be attached in.
    pub(crate) fn len(&self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }

    pub(crate) fn contains(&self, other: &Range) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    pub(crate) fn overlaps(&self, other: &Range) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Rounds outward to a power of two.
    pub(crate) fn round_out(&self, unit: u64) -> Self {
        Self {
            start: self.start & !(unit - 1),
            last: self.last | (unit - 1),
        }
    }

    /// What is left of this range before and behind `hole`, which overlaps it.
    pub(crate) fn without(&self, hole: &Range) -> [Option<Range>; 2] {
        [
            (self.start < hole.start).then(|| Range {
                start: self.start,
                last: hole.start - 1,
            }),
            (self.last > hole.last).then(|| Range {
                start: hole.last + 1,
                last: self.last,
            }),
        ]
    }

    /// The smallest range that has both in it.
    pub(crate) fn hull(&self, other: &Range) -> Self {
        Self {
            start: self.start.min(other.start),
            last: self.last.max(other.last),
        }
    }

    /// The common part of two ranges that overlap.
    pub(crate) fn common(&self, other: &Range) -> Self {
        Self {
            start: self.start.max(other.start),
            last: self.last.min(other.last),
        }
    }
}

#[cfg(CONFIG_LAYOUT_LEASE_KUNIT_TEST)]
#[kernel::macros::kunit_tests(layout_lease_range)]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> Range {
        Range { start, last }
    }

    #[test]
    fn overlap() {
        assert!(range(0, 9).overlaps(&range(9, 20)) && range(9, 20).overlaps(&range(0, 9)));
        assert!(!range(0, 9).overlaps(&range(10, 20)) && !range(10, 20).overlaps(&range(0, 9)));
        assert_eq!(range(0, 9).common(&range(5, 20)), range(5, 9));
        assert_eq!(range(0, 9).hull(&range(20, 29)), range(0, 29));
    }

    #[test]
    fn rounding() {
        assert_eq!(range(4097, 4097).round_out(4096), range(4096, 8191));
        assert_eq!(range(0, u64::MAX).round_out(2 << 20), Range::ALL);
        assert_eq!(
            range(8192, 8192).round_out(2 << 20),
            range(0, (2 << 20) - 1)
        );
    }

    #[test]
    fn holes() {
        let whole = range(10, 19);
        assert_eq!(whole.without(&Range::ALL), [None, None]);
        assert_eq!(whole.without(&whole), [None, None]);
        assert_eq!(
            whole.without(&range(12, 13)),
            [Some(range(10, 11)), Some(range(14, 19))]
        );
        assert_eq!(whole.without(&range(0, 10)), [None, Some(range(11, 19))]);
        assert_eq!(
            Range::ALL.without(&range(1, u64::MAX)),
            [Some(range(0, 0)), None]
        );
    }
}
