//! The conformance matrix as the guest itself prints it: plain text, for any serial port.

use core::fmt;

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the part of the specification of that name")]
pub enum Facility {
    Discovery,
    Hypercalls,
    Registers,
    SynIc,
    Timers,
    Clocks,
    Apic,
    Memory,
    Ipi,
    Idle,
    Locks,
    Crash,
    Extended,
    VmBus,
    Channels,
    Gpadls,
    Storage,
    Network,
    Integration,
    /// Cases that misbehave on purpose: they test this framework and run only by their names.
    Selftest,
}

impl Facility {
    /// The facilities of the matrix, in its order.
    pub const ALL: [Self; 19] = [
        Self::Discovery,
        Self::Hypercalls,
        Self::Registers,
        Self::SynIc,
        Self::Timers,
        Self::Clocks,
        Self::Apic,
        Self::Memory,
        Self::Ipi,
        Self::Idle,
        Self::Locks,
        Self::Crash,
        Self::Extended,
        Self::VmBus,
        Self::Channels,
        Self::Gpadls,
        Self::Storage,
        Self::Network,
        Self::Integration,
    ];

    /// Its name in the image and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discovery => "Discovery",
            Self::Hypercalls => "Hypercalls",
            Self::Registers => "Registers",
            Self::SynIc => "SynIC",
            Self::Timers => "Timers",
            Self::Clocks => "Clocks",
            Self::Apic => "APIC",
            Self::Memory => "Memory",
            Self::Ipi => "IPI",
            Self::Idle => "Idle",
            Self::Locks => "Locks",
            Self::Crash => "Crash",
            Self::Extended => "Extended",
            Self::VmBus => "VMBus",
            Self::Channels => "Channels",
            Self::Gpadls => "GPADLs",
            Self::Storage => "Storage",
            Self::Network => "Network",
            Self::Integration => "Integration",
            Self::Selftest => "Selftest",
        }
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As the rule says.
    Pass,
    /// Not as the rule says.
    Fail,
    /// It could not be tried here.
    Skip,
    /// In a way in which this hypervisor is known to deviate from its specification.
    Deviation,
}

impl Outcome {
    /// The word in events (`docs/interfaces.md`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Deviation => "deviation",
        }
    }

    /// The word for people: what needs their attention is in capitals.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            other => other.name(),
        }
    }
}

/// How many cases of a facility ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    counts: [u32; 4],
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        let count = &mut self.counts[outcome as usize];
        *count = count.saturating_add(1);
    }

    /// Cases that ended so.
    pub const fn count(&self, outcome: Outcome) -> u32 {
        self.counts[outcome as usize]
    }

    /// All cases.
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }
}

impl core::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }
}

/// The table's head.
pub const HEAD: Row<'_> = Row { name: "facility", tally: None };

/// A line of the table: a facility and its counts.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The facility.
    pub name: &'a str,
    /// Its counts; none for the head.
    pub tally: Option<Tally>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(tally) = self.tally else {
            let [cases, pass, fail, skip, deviation] =
                ["cases", "pass", "FAIL", "skip", "deviation"];
            return write!(
                f,
                "{:<12} {cases:>6} {pass:>6} {fail:>6} {skip:>6} {deviation:>10}",
                self.name
            );
        };
        write!(f, "{:<12} {:>6}", self.name, tally.total())?;
        for (outcome, width) in
            [(Outcome::Pass, 6), (Outcome::Fail, 6), (Outcome::Skip, 6), (Outcome::Deviation, 10)]
        {
            write!(f, " {:>width$}", tally.count(outcome))?;
        }
        Ok(())
    }
}

/// A case's rule: the last part of its name, with spaces.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a>(pub &'a str);

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.0.rsplit("::").next().unwrap_or(self.0);
        for (index, word) in rule.split('_').enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_tally_counts_each_outcome_apart() {
        let mut tally = Tally::default();
        for outcome in [Outcome::Pass, Outcome::Pass, Outcome::Deviation, Outcome::Fail] {
            tally.add(outcome);
        }
        assert_eq!((tally.count(Outcome::Pass), tally.count(Outcome::Skip)), (2, 0));
        assert_eq!(tally.total(), 4);
        let mut sum = tally;
        sum += tally;
        assert_eq!((sum.total(), sum.count(Outcome::Deviation)), (8, 2));
    }

    #[test]
    fn rows_stand_under_their_head() {
        let mut tally = Tally::default();
        tally.add(Outcome::Fail);
        let row = Row { name: "Hypercalls", tally: Some(tally) }.to_string();
        assert_eq!(HEAD.to_string(), "facility      cases   pass   FAIL   skip  deviation");
        assert_eq!(row, "Hypercalls        1      0      1      0          0");
    }

    #[test]
    fn a_rule_is_its_name_in_words() {
        assert_eq!(Rule("synic::a_full_slot_waits").to_string(), "a full slot waits");
        assert_eq!(Rule("plain").to_string(), "plain");
    }
}
