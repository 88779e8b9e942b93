//! Decides when a lab counts as lost. A machine of states on a clock that it is told, so that tests need
//! no time.
//!
//! *Theory.* A wrong answer of a guest must stay one, so a job is started again only if the lab itself failed:
//! it ended, its kernel said so, or it stopped responding. A job that hangs in a lab that beats is the job's
//! own failure. *Practice.* The agent beats every two seconds of lab time. A stall that the lab's kernel
//! reports is only a warning (the machine below may have been busy) unless it lasts: a second report
//! while the same job runs means that a processor of the lab is stuck, even if another one still beats.

use std::time::Duration;

use super::console::Finding;

/// How long is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From QEMU's start to the agent's first word.
    pub boot: Duration,
    /// Without a beat.
    pub silence: Duration,
    /// Without a beat, after the lab's kernel reported a stall.
    pub silence_after_stall: Duration,
    /// Reports of one and the same stall come together; a later one is a new report.
    pub same_stall: Duration,
    /// From the end of a job's time to the agent's word that it ended: the agent ends it by force within
    /// seconds, unless the lab's kernel cannot.
    pub overtime: Duration,
}

impl Default for Limits {
    /// Thirty missed beats, and forty times a usual start: for a machine that has much else to do.
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(180),
            silence: Duration::from_secs(60),
            silence_after_stall: Duration::from_secs(30),
            same_stall: Duration::from_secs(15),
            overtime: Duration::from_secs(120),
        }
    }
}

/// The most that one look at the clock counts. If we ourselves were stopped or starved, so was the lab, and
/// it gets the chance to catch up.
const MAX_STEP: Duration = Duration::from_secs(1);

/// Watches one start of the lab.
#[derive(Debug)]
pub struct Watchdog {
    limits: Limits,
    booted: bool,
    silent: Duration,
    /// Until the job that runs must have ended; none before the first.
    job_left: Option<Duration>,
    since_stall: Option<Duration>,
    stalls: Vec<String>,
    fatal: Option<String>,
}

impl Watchdog {
    /// A lab that was just started.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            booted: false,
            silent: Duration::ZERO,
            job_left: None,
            since_stall: None,
            stalls: Vec::new(),
            fatal: None,
        }
    }

    /// The agent said something.
    pub fn heard(&mut self) {
        self.booted = true;
        self.silent = Duration::ZERO;
    }

    /// A job with this time limit begins: earlier stalls are forgiven.
    pub fn job_begins(&mut self, limit: Duration) {
        self.job_left = Some(limit.saturating_add(self.limits.overtime));
        self.stalls.clear();
        self.since_stall = None;
    }

    /// The lab's kernel reported something; returns the warning to pass on, if it is a new one.
    pub fn reported(&mut self, finding: Finding) -> Option<String> {
        match finding {
            Finding::Fatal(line) => {
                self.fatal.get_or_insert(line);
                None
            }
            Finding::Stall(line) => {
                let same = self.since_stall.is_some_and(|since| since < self.limits.same_stall);
                if same {
                    return None;
                }
                self.since_stall = Some(Duration::ZERO);
                self.stalls.push(line.clone());
                Some(line)
            }
        }
    }

    /// Time went by; returns why the lab is lost, if it is.
    pub fn elapsed(&mut self, time: Duration) -> Option<String> {
        let time = time.min(MAX_STEP);
        self.silent += time;
        if let Some(left) = &mut self.job_left {
            *left = left.saturating_sub(time);
        }
        if let Some(since) = &mut self.since_stall {
            *since += time;
        }
        self.verdict()
    }

    fn verdict(&self) -> Option<String> {
        if let Some(line) = &self.fatal {
            return Some(format!("its kernel failed: {line}"));
        }
        if !self.booted {
            return (self.silent > self.limits.boot)
                .then(|| format!("it did not start within {} s", self.limits.boot.as_secs()));
        }
        if let [_, .., last] = self.stalls.as_slice() {
            return Some(format!("a processor of it is stuck: {last}"));
        }
        if self.job_left == Some(Duration::ZERO) {
            let overtime = self.limits.overtime.as_secs();
            return Some(format!("it cannot end a job whose time was up {overtime} s ago"));
        }
        let limit = match self.stalls.last() {
            Some(_) => self.limits.silence_after_stall,
            None => self.limits.silence,
        };
        (self.silent > limit).then(|| format!("it stopped responding for {} s", limit.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn booted() -> Watchdog {
        let mut dog = Watchdog::new(Limits::default());
        dog.heard();
        dog
    }

    /// Seconds without a word until the lab counts as lost, at most `limit`.
    fn lost_after(dog: &mut Watchdog, limit: u32) -> Option<(u32, String)> {
        (1..=limit).find_map(|second| dog.elapsed(SECOND).map(|reason| (second, reason)))
    }

    fn stall() -> Finding {
        Finding::Stall("soft lockup".into())
    }

    #[test]
    fn a_beating_lab_is_never_lost() {
        let mut dog = booted();
        for _ in 0..1000 {
            assert_eq!(lost_after(&mut dog, 59), None);
            dog.heard();
        }
    }

    #[test]
    fn silence_is_a_loss_after_its_limit_and_not_before() {
        let (second, reason) = lost_after(&mut booted(), 100).unwrap();
        assert_eq!(second, 61);
        assert!(reason.contains("stopped responding for 60 s"), "{reason}");
    }

    #[test]
    fn a_lab_that_does_not_start_has_its_own_limit() {
        let mut dog = Watchdog::new(Limits::default());
        let (second, reason) = lost_after(&mut dog, 1000).unwrap();
        assert_eq!(second, 181);
        assert!(reason.contains("did not start"), "{reason}");
    }

    #[test]
    fn a_pause_of_our_own_is_not_held_against_the_lab() {
        let mut dog = booted();
        assert_eq!(dog.elapsed(Duration::from_secs(3600)), None);
        assert_eq!(lost_after(&mut dog, 59), None);
    }

    #[test]
    fn one_stall_is_a_warning_and_shortens_the_patience() {
        let mut dog = booted();
        assert_eq!(dog.reported(stall()), Some("soft lockup".into()));
        dog.heard();
        assert_eq!(lost_after(&mut dog, 30), None);
        assert!(dog.elapsed(SECOND).is_some());
    }

    #[test]
    fn several_lines_about_one_stall_count_once() {
        let mut dog = booted();
        assert!(dog.reported(stall()).is_some());
        assert_eq!(dog.elapsed(SECOND), None);
        assert_eq!(dog.reported(stall()), None);
        assert_eq!(dog.elapsed(SECOND), None);
    }

    #[test]
    fn a_lasting_stall_is_a_loss_even_while_it_beats() {
        let mut dog = booted();
        dog.reported(stall());
        for _ in 0..20 {
            dog.heard();
            assert_eq!(dog.elapsed(SECOND), None);
        }
        dog.reported(stall());
        assert!(dog.elapsed(SECOND).unwrap().contains("stuck"));
    }

    #[test]
    fn stalls_of_different_jobs_don_t_add_up() {
        let mut dog = booted();
        for _ in 0..5 {
            dog.job_begins(60 * SECOND);
            dog.reported(stall());
            dog.heard();
            assert_eq!(lost_after(&mut dog, 20), None);
        }
    }

    #[test]
    fn a_lab_that_beats_but_cannot_end_a_job_is_lost() {
        let mut dog = booted();
        for _ in 0..2 {
            dog.job_begins(60 * SECOND);
            for second in 1..180 {
                dog.heard();
                assert_eq!(dog.elapsed(SECOND), None, "after {second} s");
            }
        }
        assert!(dog.elapsed(SECOND).unwrap().contains("cannot end a job"));
    }

    #[test]
    fn a_kernel_that_failed_is_lost_at_once_with_its_words() {
        let mut dog = booted();
        dog.reported(Finding::Fatal("Kernel panic - first".into()));
        dog.reported(Finding::Fatal("Oops: second".into()));
        assert_eq!(dog.elapsed(Duration::ZERO).unwrap(), "its kernel failed: Kernel panic - first");
    }
}
