//! Our host's own command line, wherever KVM is: here, or in the lab.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::artifacts::Artifacts;
use crate::lab::{Batch, Executor, Exit, Job, Progress, Stream};
use crate::outcome::write_file;
use crate::progress::choose_executor;
use crate::suites::kvm::HOST;
use crate::suites::trial::exit_text;

/// Options whose value is a file that the host reads.
const INPUTS: [&str; 2] = ["--kernel", "--initrd"];
/// The option whose value is a file that it writes.
const OUTPUT: &str = "--report";
/// Longest time a machine may run in the lab, in seconds; the host's own `--timeout` may be shorter.
const LAB_TIMEOUT_SECONDS: u32 = 3600;

/// Runs `hypervisor-host` with `words`; gives its exit code.
///
/// In the lab the files that `words` name are taken along, and the report is brought back. The guest's console
/// can't be typed to there.
pub fn run(artifacts: &Artifacts, words: &[String], cpus: u32) -> Result<u8> {
    let code = match choose_executor(&artifacts.host)? {
        Executor::Native(_) => {
            // In this process's place: the terminal and its signals are the host's alone.
            let error = Command::new(&artifacts.host).args(words).exec();
            bail!("cannot run {}: {error}. Build it with: make build", artifacts.host.display());
        }
        lab @ Executor::Lab(_) => in_lab(artifacts, &lab, words, cpus)?,
    };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn in_lab(artifacts: &Artifacts, lab: &Executor, words: &[String], cpus: u32) -> Result<i32> {
    let mut batch = Batch::new(cpus);
    batch.file(&artifacts.host, HOST);
    let translated = translate(words, &mut batch);
    let mut argv = vec![format!("./{HOST}")];
    argv.extend(translated.words);
    let mut job = Job::new("hypervisor-host", argv).timeout(LAB_TIMEOUT_SECONDS);
    job.collect.extend(translated.report.iter().map(|_| REPORT_IN_LAB.to_string()));
    batch.job(job);
    let done = lab.run_batch(&batch, &mut |news| match news {
        Progress::Place(place) => eprintln!("{place}"),
        Progress::Output(_, Stream::Stdout, bytes) => print!("{}", String::from_utf8_lossy(bytes)),
        Progress::Output(_, Stream::Stderr, bytes) => eprint!("{}", String::from_utf8_lossy(bytes)),
        _ => {}
    })?;
    let [result] = &done.jobs[..] else { bail!("the lab gave no result") };
    if let (Some(to), Some(bytes)) = (&translated.report, result.files.get(REPORT_IN_LAB)) {
        write_file(Path::new(to), bytes)?;
    }
    match &result.exit {
        Exit::Exited(code) => Ok(*code),
        other => bail!("hypervisor-host {}", exit_text(other)),
    }
}

const REPORT_IN_LAB: &str = "report-of-this-run.json";

/// A command line for the lab.
struct Translated {
    words: Vec<String>,
    /// Where the report belongs on this machine.
    report: Option<String>,
}

/// Puts names of the lab in place of this machine's files, which are added to `batch`.
///
/// A file that is not there keeps its name, so that the host itself says what is wrong with it.
fn translate(words: &[String], batch: &mut Batch) -> Translated {
    let mut out = Translated { words: Vec::new(), report: None };
    // `--option=value` and `--option value` alike.
    let mut words = words.iter().flat_map(|word| match word.split_once('=') {
        Some((option, value)) if is_file_option(option) => {
            vec![option.to_owned(), value.to_owned()]
        }
        _ => vec![word.clone()],
    });
    while let Some(word) = words.next() {
        out.words.push(word.clone());
        if !is_file_option(&word) {
            continue;
        }
        let Some(value) = words.next() else { break };
        if word == OUTPUT {
            out.report = Some(value);
            out.words.push(REPORT_IN_LAB.into());
        } else if Path::new(&value).is_file() {
            let name = word.trim_start_matches('-').to_owned();
            batch.file(&value, &name);
            out.words.push(name);
        } else {
            out.words.push(value);
        }
    }
    out
}

fn is_file_option(word: &str) -> bool {
    word == OUTPUT || INPUTS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &[&str]) -> (Translated, Batch) {
        let mut batch = Batch::new(1);
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        (translate(&words, &mut batch), batch)
    }

    #[test]
    fn files_go_along_and_the_report_comes_back() {
        let kernel = format!("--kernel={}", file!().replace("tests/src", "src"));
        let (out, batch) = translated(&["run", &kernel, "--vps", "4", "--report", "/x/r.json"]);
        let expected = ["run", "--kernel", "kernel", "--vps", "4", "--report", REPORT_IN_LAB];
        assert_eq!(out.words, expected);
        assert_eq!(out.report.as_deref(), Some("/x/r.json"));
        assert_eq!(batch.files[0].to, "kernel");
    }

    #[test]
    fn what_is_missing_is_left_to_the_host_to_complain_of() {
        let (out, batch) = translated(&["run", "--kernel", "/no/such/kernel", "--initrd"]);
        assert_eq!(out.words, ["run", "--kernel", "/no/such/kernel", "--initrd"]);
        assert!(batch.files.is_empty());
    }
}
