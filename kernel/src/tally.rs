//! What one virtual processor notes of each acquisition in the spin-wait study.
//!
//! **Theory.** A guest is not told when its virtual processors run. But whoever holds a lock may stamp the time of
//! its release under that lock, and the next owner reads the stamp: the difference is how long the lock lay between
//! the two. A waiter that runs looks every few ticks; one that answers much later was not running.
//!
//! **Practice.** All times are ticks of the time stamp counter, which is the same on all processors of a guest (the
//! reference TSC page rests on that too). *Much later* is [`Tally::limit`], which the caller measures: several
//! times what a visit to the hypervisor takes, as a waiter may just be telling it of its wait.

use crate::histogram::Histogram;

/// One acquisition, as its owner saw it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Acquisition {
    /// Before the first attempt.
    pub asked: u64,
    /// Once inside.
    pub got: u64,
    /// Before the release.
    pub left: u64,
    /// When the previous owner left; 0 if there was none.
    pub handed: u64,
    /// Whether the previous owner was another processor.
    pub from_another: bool,
    /// Whether the lock had to be waited for, by the lock's own account.
    pub waited: bool,
}

/// What came of all acquisitions of one processor.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Ticks after which whoever should have acted was not running.
    pub limit: u64,
    /// Acquisitions.
    pub acquisitions: u64,
    /// Ticks from asking to having, of the acquisitions that had to wait.
    pub waits: Histogram,
    /// Ticks waited in all.
    pub waited_ticks: u64,
    /// Acquisitions by a processor that already waited when another left.
    pub hand_offs: u64,
    /// Those among them that took the next owner longer than the limit to notice: it was not running.
    pub hand_offs_asleep: u64,
    /// Critical sections that took longer than the limit: their owner was interrupted by the hypervisor.
    pub holds_interrupted: u64,
}

impl Tally {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            limit: 0,
            acquisitions: 0,
            waits: Histogram::new(),
            waited_ticks: 0,
            hand_offs: 0,
            hand_offs_asleep: 0,
            holds_interrupted: 0,
        }
    }

    /// Begins anew; `limit` as above.
    pub fn begin(&mut self, limit: u64) {
        self.waits.clear();
        self.limit = limit;
        (self.acquisitions, self.waited_ticks) = (0, 0);
        (self.hand_offs, self.hand_offs_asleep, self.holds_interrupted) = (0, 0, 0);
    }

    /// Notes an acquisition. Differences saturate: counters of two processors may be a few ticks apart.
    pub fn note(&mut self, one: &Acquisition) {
        self.acquisitions += 1;
        self.holds_interrupted += u64::from(one.left.saturating_sub(one.got) > self.limit);
        if !one.waited {
            return;
        }
        let waited = one.got.saturating_sub(one.asked);
        self.waits.record(waited);
        self.waited_ticks += waited;
        if one.from_another && one.handed > one.asked {
            self.hand_offs += 1;
            self.hand_offs_asleep += u64::from(one.got.saturating_sub(one.handed) > self.limit);
        }
    }

    /// Adds what another processor noted.
    pub fn merge(&mut self, other: &Self) {
        self.acquisitions += other.acquisitions;
        self.waits.merge(&other.waits);
        self.waited_ticks += other.waited_ticks;
        self.hand_offs += other.hand_offs;
        self.hand_offs_asleep += other.hand_offs_asleep;
        self.holds_interrupted += other.holds_interrupted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::new();
        tally.begin(1000);
        tally
    }

    const QUICK: Acquisition = Acquisition {
        asked: 5000,
        got: 5100,
        left: 5150,
        handed: 5050,
        from_another: true,
        waited: true,
    };

    #[test]
    fn a_waiter_that_answers_at_once_was_running() {
        let mut tally = tally();
        tally.note(&QUICK);
        assert_eq!((tally.acquisitions, tally.hand_offs, tally.hand_offs_asleep), (1, 1, 0));
        assert_eq!((tally.waits.count(), tally.waited_ticks, tally.holds_interrupted), (1, 100, 0));
    }

    #[test]
    fn a_waiter_that_answers_late_was_not_running() {
        let mut tally = tally();
        tally.note(&Acquisition { got: 6051, left: 6060, ..QUICK });
        tally.note(&Acquisition { got: 6050, left: 6060, ..QUICK });
        assert_eq!((tally.hand_offs, tally.hand_offs_asleep), (2, 1));
    }

    #[test]
    fn who_comes_after_the_release_was_handed_nothing() {
        let mut tally = tally();
        tally.note(&Acquisition { handed: 4999, ..QUICK });
        tally.note(&Acquisition { from_another: false, ..QUICK });
        tally.note(&Acquisition { handed: 0, ..QUICK });
        assert_eq!((tally.waits.count(), tally.hand_offs), (3, 0));
    }

    #[test]
    fn an_acquisition_without_wait_is_no_wait_however_long_it_took() {
        let mut tally = tally();
        tally.note(&Acquisition { waited: false, got: 9_000_000, left: 9_000_001, ..QUICK });
        assert_eq!((tally.acquisitions, tally.waits.count(), tally.waited_ticks), (1, 0, 0));
    }

    #[test]
    fn an_owner_that_stays_too_long_was_interrupted() {
        let mut tally = tally();
        tally.note(&Acquisition { left: 5100 + 1001, ..QUICK });
        assert_eq!(tally.holds_interrupted, 1);
    }

    #[test]
    fn counters_that_run_apart_do_not_wrap() {
        let mut tally = tally();
        tally.note(&Acquisition { asked: 5000, got: 4990, left: 4980, handed: 5010, ..QUICK });
        assert_eq!(
            (tally.waited_ticks, tally.hand_offs_asleep, tally.holds_interrupted),
            (0, 0, 0)
        );
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, mut two) = (tally(), tally());
        one.note(&QUICK);
        two.note(&Acquisition { got: 8000, left: 9500, ..QUICK });
        one.merge(&two);
        assert_eq!(
            (one.acquisitions, one.hand_offs, one.hand_offs_asleep, one.holds_interrupted),
            (2, 2, 1, 1)
        );
        assert_eq!((one.waits.max(), one.waited_ticks), (3000, 3100));
    }
}
