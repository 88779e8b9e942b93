//! Runs one command in the lab: `cargo run -p tests --example lab -- [--cpus N] [--file FROM:TO]... COMMAND...`
//!
//! With `--starts N`, starts the lab N times in a row and counts.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::lab::{self, Batch, Exit, Job, Lab, LabConfig, Progress, Step, Stream};

fn main() -> ExitCode {
    lab::agent::become_agent_if_asked();
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).peekable();
    let (mut batch, mut starts, mut timeout, mut script) = (Batch::new(1), 0, 60, Vec::new());
    while let Some(word) = words.next_if(|word| word.starts_with("--")) {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--cpus" => batch.cpus = value()?.parse()?,
            "--send" => {
                let value = value()?;
                let (prompt, text) = value.split_once(':').context("--send PROMPT:TEXT")?;
                script.push(Step::WaitFor(prompt.into()));
                script.push(Step::Send(format!("{text}\n")));
            }
            "--timeout" => timeout = value()?.parse()?,
            "--starts" => starts = value()?.parse()?,
            "--file" => {
                let value = value()?;
                let (from, to) = value.split_once(':').context("--file FROM:TO")?;
                batch.file(from, to);
            }
            "--qemu" => drop(batch.add_files(&lab::foreign_qemu()?.files)),
            "--linux" => {
                let linux = lab::linux_guest(&lab::Parts::find()?, lab::LinuxKind::Synthetic)?;
                batch.add_files(&[linux.kernel_file, linux.initrd_file]);
            }
            _ => bail!("unknown option {word}"),
        }
    }
    let command: Vec<String> = words.collect();
    let mut job = Job::new(command.join(" "), command).timeout(timeout);
    job.stdin = script;
    batch.job(job);
    let lab = Lab::new(LabConfig::new()?)?;
    if starts > 0 { prove(&lab, starts, &batch) } else { once(&lab, &batch) }
}

fn once(lab: &Lab, batch: &Batch) -> Result<ExitCode> {
    let result = lab.run_batch(batch, &mut |news| match news {
        Progress::Output(_, Stream::Stdout, data) => {
            let _broken_pipe = std::io::stdout().write_all(data);
        }
        Progress::Output(_, Stream::Stderr, data) => {
            let _broken_pipe = std::io::stderr().write_all(data);
        }
        other => eprintln!("{other:?}"),
    })?;
    Ok(match result.jobs.first().map(|job| &job.exit) {
        Some(Exit::Exited(code)) => ExitCode::from(u8::try_from(*code).unwrap_or(1)),
        _ => ExitCode::FAILURE,
    })
}

fn prove(lab: &Lab, starts: u32, batch: &Batch) -> Result<ExitCode> {
    let report = lab::prove(lab, starts, batch, &mut |report| {
        eprint!("\r{}/{} clean", report.clean, report.starts);
    })?;
    println!("\n{}\n{} starts, {} clean", report.place, report.starts, report.clean);
    for (number, reason) in report.lost.iter().chain(&report.wrong).chain(&report.warnings) {
        println!("{number}: {reason}");
    }
    println!("boot times: {:?}", report.boot_times());
    Ok(if report.clean == report.starts { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
