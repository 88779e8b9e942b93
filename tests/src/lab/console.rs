//! Reads the lab's own kernel log while it grows, for the words of a kernel in trouble.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Trouble that the lab's kernel reported about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It stood still for a while, and may go on.
    Stall(String),
    /// It cannot go on.
    Fatal(String),
}

/// Linux kernel/watchdog.c, kernel/rcu/tree_stall.h: "something did not run for 20 s or more".
const STALLS: [&str; 3] = ["watchdog: BUG: soft lockup", "rcu: INFO: rcu_", "self-detected stall"];
/// Linux kernel/panic.c, arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c.
const FATAL: [&str; 6] =
    ["Kernel panic", "BUG: ", "Oops: ", "general protection fault", "double fault", "hard LOCKUP"];

/// Judges one line of the log.
pub fn judge(line: &str) -> Option<Finding> {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if has(&STALLS) {
        Some(Finding::Stall(line.to_owned()))
    } else if has(&FATAL) {
        Some(Finding::Fatal(line.to_owned()))
    } else {
        None
    }
}

/// Follows a growing log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Follower {
    /// Follows this file, which may not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, partial: Vec::new() }
    }

    /// What the lines that came since the last call report.
    pub fn poll(&mut self) -> Vec<Finding> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            // What cannot be read now is read next time.
            let _retried = file.read_to_end(&mut bytes);
        }
        self.lines(&bytes).iter().filter_map(|line| judge(line)).collect()
    }

    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.partial.extend_from_slice(bytes);
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&whole).lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// The last lines of a log, for a person.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    // Lines as Linux 6.1 printed them in labs that failed.
    const SOFT: &str =
        "[   52.101] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [hypervisor-host:91]";
    const RCU: &str = "[   60.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:";
    const PANIC: &str =
        "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100";
    const OOPS: &str = "[    3.1] BUG: kernel NULL pointer dereference, address: 0000000000000008";

    #[test]
    fn a_stall_is_not_fatal_and_a_panic_is() {
        assert_eq!(judge(SOFT), Some(Finding::Stall(SOFT.into())));
        assert_eq!(judge(RCU), Some(Finding::Stall(RCU.into())));
        assert_eq!(judge(PANIC), Some(Finding::Fatal(PANIC.into())));
        assert_eq!(judge(OOPS), Some(Finding::Fatal(OOPS.into())));
    }

    #[test]
    fn ordinary_lines_are_nothing() {
        for line in
            ["", "[ 0.0] Linux version 6.1", "rcu: Hierarchical RCU", "kvm: Nested Paging enabled"]
        {
            assert_eq!(judge(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_found_however_the_log_grows() {
        let path = std::env::temp_dir().join(format!("enl-console-{}", std::process::id()));
        let _leftover = std::fs::remove_file(&path);
        let mut follower = Follower::new(&path);
        assert!(follower.poll().is_empty());
        let mut log = File::create(&path).unwrap();
        log.write_all(b"boot\r\n\xff\xfe").unwrap();
        assert!(follower.poll().is_empty());
        log.write_all(&PANIC.as_bytes()[..30]).unwrap();
        assert!(follower.poll().is_empty());
        log.write_all(&PANIC.as_bytes()[30..]).unwrap();
        log.write_all(b"\r\nmore").unwrap();
        assert!(
            matches!(follower.poll().as_slice(), [Finding::Fatal(line)] if line.ends_with(PANIC))
        );
        assert!(follower.poll().is_empty());
        assert_eq!(tail(&path, 1), "more");
        std::fs::remove_file(path).unwrap();
    }
}
