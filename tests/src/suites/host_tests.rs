//! Our host's own tests that need KVM (`hypervisor-host/tests/native`), taken to where KVM is.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cargo::{cargo, libtest_cases};
use super::kvm::Check;
use super::trial::exit_text;
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job};

/// Name of the test target, and of its program among a batch's files.
const TARGET: &str = "native";

/// The tests as one job; adds their program to `batch`.
pub fn check(artifacts: &Artifacts, batch: &mut Batch) -> Result<Check> {
    batch.file(program(artifacts)?, TARGET);
    // They are marked as ignored, since most machines have no KVM that would do.
    let argv =
        [format!("./{TARGET}").as_str(), "--ignored", "--test-threads", "1"].map(String::from);
    let judge = |result: &crate::lab::JobResult| {
        let wrong = (result.exit.code() != Some(0)).then(|| exit_text(&result.exit));
        libtest_cases("our host's tests on KVM", &result.stdout_text(), wrong)
    };
    let job = Job::new("our host's tests on KVM", argv).timeout(120);
    Ok(Check { job, judge: Box::new(judge) })
}

/// Builds the test program with everything else's tests, so that nothing is built twice, and finds it.
fn program(artifacts: &Artifacts) -> Result<PathBuf> {
    let words = ["test", "--workspace", "--locked", "--no-run", "--message-format", "json"];
    let output = cargo(artifacts).args(words).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cannot build the tests: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let path = |line: &[u8]| {
        let message: Value = serde_json::from_slice(line).ok()?;
        let ours = message["target"]["name"] == TARGET && message["target"]["kind"][0] == "test";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    };
    let found = output.stdout.split(|&byte| byte == b'\n').find_map(path);
    found.context("cargo built no test program named 'native'")
}
