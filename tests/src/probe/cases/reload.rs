//! Linux's modules for VMBus, taken away and put back: the bus unloads, and connects anew.

use std::collections::BTreeSet;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::support::skip;
use vsc_cases::{CaseResult, Problem};

use super::system::{agreed_version, command, devices, soon, text};
use crate::lab::agent::MODULE_LIST;

/// Modules that use the bus, in the order in which they can go.
const DRIVERS: [&str; 3] = ["hv_netvsc", "hv_storvsc", "hv_utils"];
/// The bus.
const BUS: &str = "hv_vmbus";
/// What gives the first processor its interrupts in time.
const CLOCK: &str = "/sys/devices/system/clockevents/clockevent0/current_device";
/// The synthetic timers' name there (Linux, drivers/clocksource/hyperv_timer.c).
const SYNTHETIC_CLOCK: &str = "Hyper-V clockevent";

/// The bus without its drivers; all is as it was when this is dropped.
#[derive(Debug)]
pub struct Reloaded(());

impl Reloaded {
    /// Takes all drivers away.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if there is no bus or Linux does not survive without it, [`Problem::Fail`] if a module does not go.
    pub fn begin() -> Result<Self, Problem> {
        agreed_version()?;
        // `vmbus_exit` stops synthetic timers first of all, and leaves each processor's tick with its own: docs/conformance.md.
        if text(CLOCK) == SYNTHETIC_CLOCK {
            return skip(
                "with synthetic timers, Linux stops its own clock when hv_vmbus is removed",
            );
        }
        let reloaded = Self(());
        DRIVERS.iter().try_for_each(|driver| remove(driver))?;
        Ok(reloaded)
    }

    /// Takes the bus away, which unloads, and connects anew, up to a version.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if the module does not go or come.
    pub fn connect(&self, newest: Option<VmbusVersion>) -> Result<VmbusVersion, Problem> {
        remove(BUS)?;
        let word = newest.map(|version| format!("max_version={:#x}", version.0));
        insert(BUS, word.as_deref())?;
        agreed_version()
    }
}

impl Drop for Reloaded {
    fn drop(&mut self) {
        let _seen_by_the_next_case = remove(BUS)
            .and_then(|()| insert(BUS, None))
            .and_then(|()| DRIVERS.iter().rev().try_for_each(|driver| insert(driver, None)));
    }
}

fn remove(module: &str) -> CaseResult {
    if text(format!("/sys/module/{module}/initstate")).is_empty() {
        return Ok(());
    }
    command(&["rmmod", module]).map(drop)
}

fn insert(module: &str, word: Option<&str>) -> CaseResult {
    let list = text(MODULE_LIST);
    let file = list.lines().find(|line| line.contains(&format!("/{module}.ko")));
    let Some(file) = file else { return skip(format!("there is no module {module}")) };
    let mut words = vec!["insmod"];
    words.extend(file.split_whitespace().chain(word));
    command(&words).map(drop)
}

/// The devices' names, when there are as many as `expected` or when waiting is over.
pub fn names(expected: usize) -> BTreeSet<String> {
    soon(|| devices().len() >= expected);
    devices().into_iter().map(|device| device.name).collect()
}
