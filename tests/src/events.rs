//! The kernel's `@enl` event lines, as `docs/interfaces.md` defines them, read from a console's text.
//!
//! The console is written by a guest, so nothing in it is trusted: a line that does not parse is kept
//! as a [`Line::Malformed`] for the report and otherwise ignored.

use serde::{Deserialize, Serialize};

use crate::conformance::judge::Outcome;

/// What begins every event line.
pub const PREFIX: &str = "@enl ";

/// One event of a guest's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A case of the conformance matrix is about to run.
    CaseBegin {
        /// The case's path, such as `synic::a_full_slot_sets_message_pending`.
        name: String,
    },
    /// A case of the conformance matrix has ended.
    Case {
        /// The case's path.
        name: String,
        /// How it ended.
        result: Outcome,
        /// Why it did not pass.
        #[serde(default)]
        reason: String,
    },
    /// One lock of the spin-wait study has been measured.
    Study(Box<Study>),
    /// One kind of work has been done at one width.
    Scaling(Scaling),
    /// The server takes connections.
    Serving {
        /// How many at the same time.
        sockets: u64,
    },
    /// The server has ended.
    Served(Served),
    /// The kernel panicked.
    Panic {
        /// The panic's message.
        message: String,
    },
    /// There is a drive on the IDE controller.
    Drive {
        /// `disk` or `cd-rom`.
        kind: String,
        /// Its model's name.
        model: String,
        /// Sectors of a disk.
        sectors: u64,
    },
    /// The guest is about to end.
    End {
        /// Its exit code.
        code: u8,
    },
}

/// What the kernel found when it came up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// One lock, measured. All of it is the guest's word; fields that an older guest does not know are 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Study {
    /// The lock's name.
    pub lock: String,
    /// Virtual processors that took part.
    pub vps: u32,
    /// Iterations of the critical section's work loop.
    pub hold: u32,
    /// Iterations of the work loop between two acquisitions.
    pub gap: u32,
    /// How long each was to take the lock again and again, in ms; 0: as often as it was told.
    pub duration_ms: u32,
    /// Acquisitions by all of them together.
    pub acquisitions: u64,
    /// Hypercalls issued to report long waits.
    pub long_spin_notifications: u64,
    /// Iterations of the waiting loop.
    pub spin_iterations: u64,
    /// How often a waiter idled.
    pub idles: u64,
    /// How often one was woken from that by another.
    pub kicks: u64,
    /// Time from the first to the last virtual processor's last acquisition, in 100 ns.
    pub elapsed_100ns: u64,
    /// Time that the virtual processors ran on processors, all of them together, in 100 ns; 0 if not told.
    pub runtime_100ns: u64,
    /// Iterations between two notifications (CPUID 0x40000004 EBX).
    pub threshold: u32,
    /// Acquisitions that had to wait.
    pub waits: u64,
    /// Time from asking to having, of those together, in ns.
    pub waited_ns: u64,
    /// What half of the waits do not exceed, in ns, to within an eighth.
    pub wait_p50_ns: u64,
    /// What 99 of 100 waits do not exceed, in ns, to within an eighth.
    pub wait_p99_ns: u64,
    /// The longest wait in ns.
    pub wait_max_ns: u64,
    /// Acquisitions by a virtual processor that already waited when another released the lock.
    pub hand_offs: u64,
    /// Those among them that the next owner noticed later than `late_ns`: it was not running.
    pub hand_offs_asleep: u64,
    /// Critical sections that took longer than `late_ns`: their owner was not running all the time.
    pub holds_interrupted: u64,
    /// Several visits to the hypervisor, in ns.
    pub late_ns: u64,
    /// One visit to the hypervisor, in ns.
    pub visit_ns: u64,
    /// 1000 rounds of waiting by a virtual processor that runs, in ns.
    pub ns_per_1000_rounds: u64,
    /// How many waits there were of each size.
    pub wait_octaves: Vec<WaitOctave>,
    /// What each virtual processor did.
    pub per_vp: Vec<StudyVp>,
}

/// Waits from one power of two of the guest's ticks to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitOctave {
    /// The least of them in ns.
    pub from_ns: u64,
    /// How many.
    pub count: u64,
}

/// What one virtual processor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StudyVp {
    /// Acquisitions.
    pub acquisitions: u64,
    /// Iterations of the waiting loop.
    pub spin_iterations: u64,
    /// Hypercalls issued to report long waits.
    pub notifications: u64,
    /// Time from asking to having the lock, where it had to wait, in ns.
    pub waited_ns: u64,
    /// Time that it ran on a processor in 100 ns; 0 if not told.
    pub runtime_100ns: u64,
}

/// Work of the crate `workload`, done by a guest or on the bare machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Its name.
    pub work: String,
    /// Threads or virtual processors that shared nothing but the lock, each on a processor of its own if it can be.
    pub width: u32,
    /// How much each of them did.
    pub amount: u32,
    /// From the first one's begin to the last one's end, in 100 ns.
    pub elapsed_100ns: u64,
    /// What the work came to, which depends on `amount` and `width` only.
    pub result: u64,
}

/// What a server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Served {
    /// Answers that went out whole.
    pub responses: u64,
    /// Bytes given to TCP.
    pub sent_bytes: u64,
    /// Frames sent, large segments as one.
    pub frames_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Requests to the disk.
    pub disk_requests: u64,
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
        Event::Study(study) => Some(*study),
        _ => None,
    };
    events(console).into_iter().filter_map(keep).collect()
}

/// The work done, of `console`, in order.
pub fn scalings(console: &str) -> Vec<Scaling> {
    let keep = |event| match event {
        Event::Scaling(scaling) => Some(scaling),
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
