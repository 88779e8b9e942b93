//! What the script's lines say, and what the host counted meanwhile.

use std::fmt;

use crate::events::{self, Event, Served, Verdict};
use crate::lab::JobResult;
use crate::outcome::Case;
use crate::suites::host::report;
use crate::suites::linux_devices::case;
use crate::suites::trial::exit_text;

/// The last thing that the script judges.
const LAST: &str = "as many answers as requests";

/// A case for each thing that was tried.
pub(super) fn cases(result: &JobResult) -> Vec<Case> {
    let text = result.stdout_text();
    let mut cases: Vec<Case> = text.lines().filter_map(|line| case("", line)).collect();
    if !cases.iter().any(|case| case.name == LAST) {
        let end = exit_text(&result.exit);
        let reason = format!("it {end}; {}", result.stderr_text().trim());
        cases.push(Case::fail("the demo goes all the way", reason));
    }
    cases
}

/// A line of the script as a person is shown it; `None` for what is for programs.
pub(super) fn shown(line: &str) -> Option<String> {
    let Case { name, verdict, reason, .. } = case("", line)?;
    Some(match verdict {
        Verdict::Pass => format!("  ok    {name}"),
        Verdict::Fail => format!("  FAIL  {name}: {reason}"),
        Verdict::Skip => format!("  skip  {name}: {reason}"),
    })
}

/// Lines out of pieces.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece; gives the lines that it completes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

/// What was counted and timed. What did not come is 0 or `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub(super) struct Figures {
    /// By the guest.
    served: Served,
    large_bytes: u64,
    /// From curl's connection to the last byte.
    large_seconds: f64,
    /// Exits of the whole run, if the kernel counts them.
    exits: Option<u64>,
    /// Large segments that the card took, for the network to cut.
    large_segments: u64,
    disk_bytes: u64,
}

/// Reads them.
pub(super) fn figures(result: &JobResult) -> Figures {
    let text = result.stdout_text();
    let figure = |name: &str| {
        let mut values =
            text.lines().filter_map(|line| line.strip_prefix("FIGURE ")?.strip_prefix(name));
        values.next().map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    let served = events::events(&text).into_iter().find_map(|event| match event {
        Event::Served(served) => Some(served),
        _ => None,
    });
    let report = report(result).ok();
    let nets = report.iter().flat_map(|report| &report.nets);
    let disks = report.iter().flat_map(|report| &report.disks);
    Figures {
        served: served.unwrap_or_default(),
        large_bytes: figure("large_bytes").parse().unwrap_or_default(),
        large_seconds: figure("large_seconds").parse().unwrap_or_default(),
        exits: report.as_ref().and_then(|report| report.kvm_exits),
        large_segments: nets.map(|net| net.counts.tx_large).sum(),
        disk_bytes: disks.map(|disk| disk.read_bytes).sum(),
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = (1 << 20) as f64;
        let Self { served, large_segments, .. } = self;
        let mib = |bytes: u64| bytes as f64 / MIB;
        writeln!(
            f,
            "{} answers, {:.1} MiB in {} frames ({large_segments} of them large segments); {} frames came in; {:.1} MiB read from the disk by {} requests",
            served.responses,
            mib(served.sent_bytes),
            served.frames_out,
            served.frames_in,
            mib(self.disk_bytes),
            served.disk_requests,
        )?;
        if let Some(exits) = self.exits {
            let each = exits as f64 / mib(served.sent_bytes).max(1.0);
            writeln!(f, "{exits} exits from power-on to the end, {each:.1} for each MiB sent")?;
        }
        let (mib, seconds) = (mib(self.large_bytes), self.large_seconds);
        write!(f, "the file of {mib:.0} MiB: {seconds:.1} s, {:.1} MiB/s", mib / seconds.max(0.001))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(stdout: &str) -> JobResult {
        JobResult { stderr: b"no room\n".to_vec(), ..JobResult::of_test(1, stdout) }
    }

    #[test]
    fn a_script_that_stops_on_the_way_has_failed() {
        let cases = cases(&result("CASE GET / ok\nCASE POST FAIL '200', not '405'\n"));
        let verdicts: Vec<_> = cases.iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Fail]);
        assert!(cases[2].reason.contains("no room"), "{}", cases[2].reason);
        let whole = super::cases(&result(&format!("CASE {LAST} ok\n")));
        assert_eq!(whole.len(), 1);
    }

    #[test]
    fn figures_come_from_lines_and_events() {
        let text = "FIGURE large_bytes 1048576\nFIGURE large_seconds 0.5\n\
            @enl {\"event\":\"served\",\"responses\":3,\"sent_bytes\":2097152,\"frames_out\":40,\"frames_in\":20,\"disk_requests\":33}\n";
        let figures = figures(&result(text));
        assert_eq!((figures.served.responses, figures.served.disk_requests), (3, 33));
        let text = figures.to_string();
        assert!(text.contains("1 MiB: 0.5 s, 2.0 MiB/s") && text.contains("3 answers"), "{text}");
        assert_eq!(super::figures(&result("FIGURE large_bytes x\n")), Figures::default());
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"CASE a").is_empty());
        assert_eq!(lines.take(b" ok\nCASE b FAIL x\nCAS"), ["CASE a ok", "CASE b FAIL x"]);
        assert_eq!(lines.take(b"E c ok\n"), ["CASE c ok"]);
        assert_eq!(shown("CASE b FAIL x").unwrap(), "  FAIL  b: x");
        assert_eq!(shown("FIGURE x 1"), None);
    }
}
