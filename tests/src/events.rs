//! The kernel's `@enl` event lines, as `docs/interfaces.md` defines them, read from a console's text.
//!
//! The console is written by a guest, so nothing in it is trusted: a line that does not parse is kept
//! as a [`Line::Malformed`] for the report and otherwise ignored.

use serde::{Deserialize, Serialize};

/// What begins every event line.
pub const PREFIX: &str = "@enl ";

/// One event of a guest's life.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The kernel is up.
    Boot(Boot),
    /// A test is about to run.
    TestBegin {
        /// The test's path, such as `clock::counter_is_monotonic`.
        name: String,
    },
    /// A test has ended.
    Test {
        /// The test's path.
        name: String,
        /// How it ended.
        result: Verdict,
        /// Why it failed or was skipped.
        #[serde(default)]
        reason: String,
    },
    /// One lock of the spin-wait study has been measured.
    Study(Study),
    /// The kernel panicked.
    Panic {
        /// The panic's message.
        message: String,
    },
    /// The guest is about to end.
    End {
        /// Its exit code.
        code: u8,
    },
}

/// What the kernel found when it came up.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Boot {
    /// Virtual processors that run.
    pub vps: u32,
    /// Vendor signature of the hypervisor leaves, or `none`.
    pub hypervisor: String,
    /// `pvh` or `linux64`.
    pub protocol: String,
    /// Usable memory in bytes.
    pub memory_bytes: u64,
    /// Memory that the image occupies in bytes.
    pub kernel_bytes: u64,
    /// `xapic` or `x2apic`.
    pub apic: String,
}

/// One lock, measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Study {
    /// The lock's name.
    pub lock: String,
    /// Virtual processors that took part.
    pub vps: u32,
    /// Acquisitions by all of them together.
    pub acquisitions: u64,
    /// Hypercalls issued to report long waits.
    pub long_spin_notifications: u64,
    /// Iterations of the waiting loop.
    pub spin_iterations: u64,
    /// Time from the first to the last virtual processor's last acquisition, in 100 ns.
    pub elapsed_100ns: u64,
    /// Iterations between two notifications (CPUID 0x40000004 EBX).
    pub threshold: u32,
}

/// How a test ended, as the guest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It did what it should.
    Pass,
    /// It did not.
    Fail,
    /// It could not be tried here; the reason says why.
    Skip,
}

/// One line of console text.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An event.
    Event(Event),
    /// A line with the prefix that is no event, with the reason.
    Malformed(String),
}

/// All event lines of a console's text, in order.
pub fn parse(console: &str) -> Vec<Line> {
    console.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    // A UART's line may carry a carriage return, and a boot loader's escape sequences before the prefix.
    let at = line.find(PREFIX)?;
    let text = line[at + PREFIX.len()..].trim();
    Some(match serde_json::from_str(text) {
        Ok(event) => Line::Event(event),
        Err(error) => Line::Malformed(format!("{error} in {text:?}")),
    })
}

/// The events of `console` without the malformed lines.
pub fn events(console: &str) -> Vec<Event> {
    let keep = |line| match line {
        Line::Event(event) => Some(event),
        Line::Malformed(_) => None,
    };
    parse(console).into_iter().filter_map(keep).collect()
}

/// The measured locks of `console`, in order.
pub fn studies(console: &str) -> Vec<Study> {
    let keep = |event| match event {
        Event::Study(study) => Some(study),
        _ => None,
    };
    events(console).into_iter().filter_map(keep).collect()
}

/// What the kernel found when it came up, if it did.
pub fn boot(console: &str) -> Option<Boot> {
    events(console).into_iter().find_map(|event| match event {
        Event::Boot(boot) => Some(boot),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_between_other_lines() {
        let console = "hello\r\n@enl {\"event\":\"test-begin\",\"name\":\"a::b\"}\r\n\
            [1.0] info\n@enl {\"event\":\"test\",\"name\":\"a::b\",\"result\":\"skip\",\"reason\":\"no\"}\n\
            @enl {\"event\":\"end\",\"code\":0}";
        assert_eq!(
            events(console),
            [
                Event::TestBegin { name: "a::b".into() },
                Event::Test { name: "a::b".into(), result: Verdict::Skip, reason: "no".into() },
                Event::End { code: 0 },
            ]
        );
    }

    #[test]
    fn escape_sequences_before_the_prefix_do_not_hide_an_event() {
        let console = "\u{1b}[2J\u{1b}[01;01H@enl {\"event\":\"end\",\"code\":3}";
        assert_eq!(events(console), [Event::End { code: 3 }]);
    }

    #[test]
    fn garbage_is_reported_and_never_an_event() {
        for text in ["@enl", "@enl ", "@enl {", "@enl {\"event\":\"end\",\"code\":999}", "@enl []"]
        {
            assert_eq!(events(text), [], "{text}");
        }
        let lines = parse("@enl {\"event\":\"unheard-of\"}");
        assert!(matches!(&lines[..], [Line::Malformed(why)] if why.contains("unheard-of")));
    }

    #[test]
    fn a_study_carries_its_counts() {
        let console = "@enl {\"event\":\"study\",\"lock\":\"spin\",\"vps\":4,\"acquisitions\":40000,\
            \"long_spin_notifications\":3,\"spin_iterations\":123456,\"elapsed_100ns\":98765,\
            \"threshold\":4095,\"per_vp\":[{\"acquisitions\":1,\"spin_iterations\":2,\"notifications\":0}]}";
        let [study] = &studies(console)[..] else { panic!("one study") };
        assert_eq!((study.vps, study.acquisitions), (4, 40000));
        assert_eq!((study.spin_iterations, study.long_spin_notifications), (123_456, 3));
    }
}
