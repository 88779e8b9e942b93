//! Jobs as local processes: endings, limits, scripted input, leftovers.

use super::*;

fn shell(script: &str) -> Job {
    Job::new("test", ["/bin/sh", "-c", script]).timeout(20)
}

fn run_here(job: &Job) -> (Finished, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let finished = run(job, Path::new("/tmp"), &mut |stream, data| match stream {
        Stream::Stdout => stdout.extend_from_slice(data),
        Stream::Stderr => stderr.extend_from_slice(data),
    });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (finished, text(stdout), text(stderr))
}

#[test]
fn the_exit_code_and_both_streams_come_back() {
    let (finished, stdout, stderr) = run_here(&shell("echo out; echo err >&2; exit 7"));
    assert_eq!(finished.exit, Exit::Exited(7));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_signal_is_not_an_exit_code() {
    assert_eq!(run_here(&shell("kill -SEGV $$")).0.exit, Exit::Signaled(libc::SIGSEGV));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let (finished, ..) = run_here(&Job::new("x", ["./no-such-program"]));
    let Exit::NotStarted(reason) = finished.exit else { panic!("{finished:?}") };
    assert!(reason.contains("./no-such-program"), "{reason}");
}

#[test]
fn a_job_without_a_program_does_not_start() {
    assert!(matches!(run_here(&Job::new("x", [""; 0])).0.exit, Exit::NotStarted(_)));
}

#[test]
fn time_up_asks_first_and_keeps_what_was_printed() {
    let job = shell("trap 'echo asked; exit 0' TERM; echo begin; sleep 60 & wait").timeout(1);
    let (finished, stdout, _) = run_here(&job);
    assert_eq!(finished.exit, Exit::TimedOut);
    assert_eq!(stdout, "begin\nasked\n");
    assert!(finished.duration < Duration::from_secs(10), "{finished:?}");
}

#[test]
fn what_ignores_the_request_is_killed() {
    let job = shell("trap '' TERM; while :; do sleep 1; done").timeout(1);
    let (finished, ..) = run_here(&job);
    assert_eq!(finished.exit, Exit::TimedOut);
    assert!(finished.duration >= GRACE && finished.duration < GRACE * 3, "{finished:?}");
}

#[test]
fn a_background_process_neither_delays_nor_outlives_the_job() {
    let (finished, stdout, _) = run_here(&shell("sleep 300 & echo $!"));
    assert_eq!(finished.exit, Exit::Exited(0));
    assert!(finished.duration < Duration::from_secs(10), "{finished:?}");
    let stat = Path::new("/proc").join(stdout.trim()).join("stat");
    let deadline = Instant::now() + Duration::from_secs(10);
    // A killed orphan may wait a moment for its reaper.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the background process still runs");
        thread::sleep(POLL);
    }
}

#[test]
fn scripted_input_waits_for_each_prompt() {
    let job =
        shell("printf 'name? '; read a; printf 'more? '; read b; echo \"$a-$b\"; cat; echo end")
            .step(Step::WaitFor("name? ".into()))
            .step(Step::Send("one\n".into()))
            .step(Step::WaitFor("? ".into()))
            .step(Step::Send("two\n".into()))
            .step(Step::Close);
    assert_eq!(run_here(&job).1, "name? more? one-two\nend\n");
}

#[test]
fn a_prompt_that_never_comes_lets_the_time_run_out() {
    let job =
        shell("read a").timeout(1).step(Step::WaitFor("?".into())).step(Step::Send("x\n".into()));
    assert_eq!(run_here(&job).0.exit, Exit::TimedOut);
}

#[test]
fn a_prompt_split_between_two_reads_is_found() {
    let (sender, _typed) = mpsc::channel();
    let mut script = Script {
        steps: vec![Step::WaitFor("login:".into())].into(),
        seen: vec![],
        typist: Some(sender),
    };
    script.saw(b"xxxx lo");
    script.saw(b"gin");
    assert_eq!(script.steps.len(), 1);
    script.saw(b": ");
    assert!(script.steps.is_empty());
}

#[test]
fn endless_output_is_cut_and_counted() {
    let job = shell("head -c 5000000 /dev/zero; echo told >&2");
    let (finished, stdout, stderr) = run_here(&job);
    assert_eq!(stdout.len(), MAX_OUTPUT_BYTES);
    assert_eq!(finished.dropped_bytes, 5_000_000 - MAX_OUTPUT_BYTES as u64);
    assert_eq!(stderr, "told\n");
}

#[test]
fn an_old_file_is_not_taken_for_the_jobs_own() {
    let name = format!("enl-process-test-{}", std::process::id());
    let path = Path::new("/tmp").join(&name);
    fs::write(&path, "old").unwrap();
    run_here(&shell("true").collect(name));
    assert!(!path.exists());
}
