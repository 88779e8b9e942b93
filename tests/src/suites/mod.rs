//! The suites of `make test`.
//!
//! - [`cargo`]: what runs without a virtual machine
//! - [`tcg`]: the kernel on QEMU's software processor; [`ide`], [`tulip`]: its drivers of disks and of a network card there
//! - [`kvm`]: our host, QEMU and stock Linux on KVM, natively or in the lab
//! - [`host`], [`host_tests`], [`linux`], [`synthetic`], [`emulated`], [`foreign`]: parts of it; [`linux_devices`]: what those with
//!   stock Linux share; [`images`]: guests that go wrong on purpose
//! - [`trial`]: one start of a guest and its results

pub mod cargo;
pub mod emulated;
pub mod foreign;
pub mod host;
pub mod host_tests;
pub mod ide;
pub mod images;
pub mod kvm;
pub mod linux;
pub mod linux_devices;
pub mod synthetic;
pub mod tcg;
pub mod trial;
pub mod tulip;

use crate::lab::JobResult;
use crate::outcome::{Results, Suite};
use trial::Trial;

/// The guest's command line for all tests.
fn all_tests() -> String {
    "events log=warn test=all".into()
}

/// Adds each trial's cases to the suite it names, and that suite to `results`.
fn add_trial_results(results: &mut Results, trials: &[Trial], done: &[JobResult]) {
    let mut suites: Vec<Suite> = Vec::new();
    for (trial, result) in trials.iter().zip(done) {
        let cases = trial.cases(result);
        match suites.iter_mut().find(|suite| suite.name == trial.suite) {
            Some(suite) => suite.cases.extend(cases),
            None => suites.push(Suite { name: trial.suite.clone(), cases }),
        }
    }
    for suite in suites {
        results.add(suite);
    }
}
