//! The runner against a fake QEMU: a shell script that speaks the agent's protocol and fails on demand.

use std::path::Path;
use std::process::Command;

use super::*;

/// What every fake begins with: its start's number in `$n`, the kernel log in `$log`, words to answer with.
const PRELUDE: &str = r#"#!/bin/sh
for word; do case $word in file:*) log=${word#file:};; esac; done
n=$(cat "$0.starts" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$0.starts"
hello() { echo '{"Hello":{"kernel":"6","cpus":1,"kvm":{"Ok":null}}}'; }
# Sets $id to the next job's number.
next() { read -r line || exit 0; id=$(expr "$line" : '.*"id":\([0-9]*\)'); echo "$id" >>"$0.ran"; }
end() { echo "{\"Done\":{\"id\":$id,\"exit\":{\"Exited\":$1},\"micros\":5,\"dropped_bytes\":0}}"; }
work() { while next; do end 0; done; }
"#;

struct Fake {
    folder: PathBuf,
    lab: Lab,
}

impl Fake {
    fn new(name: &str, script: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("enl-runner-{}-{name}", std::process::id()));
        let _leftover = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("modules")).unwrap();
        let qemu = folder.join("qemu");
        let text = folder.join("text");
        fs::write(&text, format!("{PRELUDE}{script}\n")).unwrap();
        // Written by another process: a file that a thread of ours has open for writing, even in a child that
        // another test just forked, cannot be started ("text file busy").
        let made = Command::new("install").args(["-m", "755"]).args([&text, &qemu]).status();
        assert!(made.unwrap().success());
        let parts = Parts {
            directory: folder.clone(),
            kernel: qemu.clone(),
            kernel_release: "6".into(),
            modules: folder.join("modules"),
            busybox: "/bin/true".into(),
            qemu: qemu.clone(),
            qemu_version: "10.0".into(),
            qemu_data: Vec::new(),
            qemu_modules: None,
            kvp_daemon: None,
            generic: None,
        };
        let limits = Limits { silence: Duration::from_secs(2), ..Limits::default() };
        let config = LabConfig { agent: qemu, limits, max_restarts: 2 };
        Self { folder, lab: Lab { parts, config, why: None } }
    }

    /// Runs the jobs `a`, `b` and `c`.
    fn run(&self) -> BatchResult {
        let mut batch = Batch::new(1);
        for name in ["a", "b", "c"] {
            batch.job(Job::new(name, [name]).collect("wanted"));
        }
        self.lab.run_batch(&batch, &mut |_| {}).unwrap()
    }

    /// Numbers of the jobs that were started, in order.
    fn ran(&self) -> String {
        let ran = fs::read_to_string(self.folder.join("qemu.ran")).unwrap_or_default();
        ran.split_whitespace().collect()
    }

    fn starts(&self) -> String {
        fs::read_to_string(self.folder.join("qemu.starts")).unwrap().trim().to_owned()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.folder);
    }
}

fn codes(result: &BatchResult) -> Vec<Option<i32>> {
    result.jobs.iter().map(|job| job.exit.code()).collect()
}

#[test]
fn a_batch_shares_one_start_and_keeps_its_order() {
    let fake = Fake::new("order", "hello; work");
    let result = fake.run();
    assert_eq!(codes(&result), [Some(0); 3]);
    assert_eq!((fake.ran().as_str(), fake.starts().as_str()), ("012", "1"));
    assert_eq!((result.boots.len(), result.restarts.len()), (1, 0));
    let names: Vec<&str> = result.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn after_a_loss_only_the_unfinished_jobs_run() {
    let fake = Fake::new("resume", "hello; [ $n = 1 ] && { next; end 0; next; exit 1; }; work");
    let result = fake.run();
    assert_eq!(codes(&result), [Some(0); 3]);
    assert_eq!(fake.ran(), "0112");
    let attempts: Vec<u32> = result.jobs.iter().map(|job| job.attempts).collect();
    assert_eq!(attempts, [1, 2, 1]);
    let [restart] = result.restarts.as_slice() else { panic!("{result:?}") };
    assert_eq!(restart.job.as_deref(), Some("b"));
    assert!(restart.reason.contains("QEMU ended"), "{}", restart.reason);
}

#[test]
fn a_wrong_answer_is_never_asked_for_again() {
    let fake = Fake::new("wrong", "hello; while next; do end 1; done");
    let result = fake.run();
    assert_eq!(codes(&result), [Some(1); 3]);
    assert_eq!(fake.ran(), "012");
    assert!(result.restarts.is_empty());
}

#[test]
fn a_lab_that_keeps_dying_is_started_three_times_in_all() {
    let fake = Fake::new("dying", "hello; next; exit 1");
    let result = fake.run();
    assert_eq!((fake.starts().as_str(), fake.ran().as_str()), ("3", "000"));
    assert_eq!(result.restarts.len(), 3);
    assert!(result.jobs.iter().all(|job| matches!(job.exit, Exit::LabLost(_))), "{result:?}");
    let attempts: Vec<u32> = result.jobs.iter().map(|job| job.attempts).collect();
    assert_eq!(attempts, [3, 0, 0]);
}

#[test]
fn a_silent_lab_is_started_again() {
    let fake = Fake::new("silent", "hello; [ $n = 1 ] && exec sleep 100; work");
    let result = fake.run();
    assert_eq!(codes(&result), [Some(0); 3]);
    assert!(result.restarts[0].reason.contains("stopped responding"), "{result:?}");
}

#[test]
fn a_beating_lab_may_take_its_time() {
    let beat = "for i in 1 2 3 4 5 6 7 8; do sleep 0.5; echo '\"Beat\"'; done";
    let fake = Fake::new("slow", &format!("hello; next; {beat}; end 0; work"));
    let result = fake.run();
    assert_eq!(codes(&result), [Some(0); 3]);
    assert!(result.restarts.is_empty(), "{result:?}");
}

#[test]
fn a_kernel_that_panics_is_lost_at_once_and_its_log_is_kept() {
    let panic = "echo '[ 1.0] Kernel panic - not syncing: x' >\"$log\"; exec sleep 100";
    let fake = Fake::new("panic", &format!("hello; [ $n = 1 ] && {{ next; {panic}; }}; work"));
    let result = fake.run();
    assert_eq!(codes(&result), [Some(0); 3]);
    let restart = &result.restarts[0];
    assert!(restart.reason.contains("Kernel panic"), "{}", restart.reason);
    assert!(fs::read_to_string(&restart.console_log).unwrap().contains("not syncing"));
}

#[test]
fn a_single_stall_is_told_and_changes_no_result() {
    let stall =
        "echo 'watchdog: BUG: soft lockup - CPU#0 stuck for 22s!' >>\"$log\"; sleep 1; end 3";
    let fake = Fake::new("stall", &format!("hello; next; {stall}; work"));
    let result = fake.run();
    assert_eq!(codes(&result), [Some(3), Some(0), Some(0)]);
    assert!(result.warnings[0].starts_with("a: ") && result.restarts.is_empty(), "{result:?}");
}

#[test]
fn a_lab_without_kvm_is_no_lab() {
    let fake = Fake::new(
        "no-kvm",
        r#"echo '{"Hello":{"kernel":"6","cpus":1,"kvm":{"Err":"absent"}}}'; work"#,
    );
    let result = fake.run();
    assert!(result.restarts[0].reason.contains("no KVM: absent"), "{result:?}");
    assert_eq!(fake.ran(), "");
}

#[test]
fn qemus_own_words_are_part_of_the_reason() {
    let fake = Fake::new("words", "echo 'qemu: cannot set up guest memory' >&2; exit 1");
    let result = fake.run();
    assert!(result.restarts[0].reason.contains("cannot set up guest memory"), "{result:?}");
}

#[test]
fn output_and_wanted_files_are_put_together_from_pieces() {
    // "ab", "c" and "d" are "YWI=", "Yw==" and "ZA==".
    let pieces = r#"
        echo "{\"Output\":{\"id\":$id,\"stream\":\"Stdout\",\"data\":\"YWI=\"}}"
        echo "garbage"
        echo "{\"Output\":{\"id\":$id,\"stream\":\"Stdout\",\"data\":\"Yw==\"}}"
        echo "{\"Output\":{\"id\":7,\"stream\":\"Stdout\",\"data\":\"ZA==\"}}"
        echo "{\"File\":{\"id\":$id,\"path\":\"wanted\",\"data\":\"YWI=\"}}"
        echo "{\"File\":{\"id\":$id,\"path\":\"wanted\",\"data\":\"Yw==\"}}"
        echo "{\"File\":{\"id\":$id,\"path\":\"../other\",\"data\":\"ZA==\"}}"
    "#;
    let fake = Fake::new("pieces", &format!("hello; next; {pieces} end 0; work"));
    let result = fake.run();
    assert_eq!(result.jobs[0].stdout, b"abc");
    assert_eq!(result.jobs[0].files, [("wanted".to_owned(), b"abc".to_vec())].into());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_before_any_start() {
    let fake = Fake::new("missing", "work");
    let mut batch = Batch::new(1);
    batch.file("/no/such/file", "x").job(Job::new("x", ["true"]));
    assert!(fake.lab.run_batch(&batch, &mut |_| {}).is_err());
    assert!(!Path::new(&fake.folder.join("qemu.starts")).exists());
}

#[test]
fn the_place_names_the_recipe_and_what_is_missing() {
    let mut fake = Fake::new("place", "");
    assert_eq!(fake.lab.place(2), "lab: QEMU 10.0 TCG, 2 processors; kernel 6; KVM inside");
    fake.lab.parts.qemu_version = "7.2.1".into();
    assert!(fake.lab.place(2).contains("1 processor (2 need QEMU 10"));
    assert!(fake.lab.place(1).contains("1 processor; kernel"));
}
