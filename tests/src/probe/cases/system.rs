//! What Linux shows and takes of VMBus: devices and channels under `/sys`, the kernel's log.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::support::skip;
use vsc_cases::{CaseResult, Problem};

use super::failed;

/// State of an open channel (Linux, include/linux/hyperv.h, enum `vmbus_channel_state`).
const OPENED: &str = "3";
/// Time for something that Linux does beside.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks again and again for some seconds whether `holds`.
pub fn soon(holds: impl FnMut() -> bool) -> bool {
    within(PATIENCE, holds)
}

/// ... for so long.
pub fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file's text without the space around it; empty if it can't be read.
pub fn text(path: impl Into<PathBuf>) -> String {
    fs::read_to_string(path.into()).unwrap_or_default().trim().to_owned()
}

/// Processors that run.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// Memory in bytes.
pub fn memory_bytes() -> u64 {
    let text = text("/proc/meminfo");
    let kib = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// Runs a program of the guest.
///
/// # Errors
///
/// [`Problem::Fail`] with its words.
pub fn command(words: &[&str]) -> Result<String, Problem> {
    let named = words.join(" ");
    let (program, arguments) = words.split_first().unwrap_or((&"false", &[]));
    let output = Command::new(program).args(arguments).output().map_err(failed(&named))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Problem::Fail(format!("{named}: {}; {}", said.trim(), log_end())))
}

/// The last lines of the kernel's log.
pub fn log_end() -> String {
    let log = command_output("dmesg");
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    format!("the kernel's log ends with {lines:?}")
}

fn command_output(program: &str) -> String {
    let output = Command::new(program).output();
    output.map_or_else(|_| String::new(), |it| String::from_utf8_lossy(&it.stdout).into_owned())
}

/// The version that the bus agreed to last.
///
/// # Errors
///
/// [`Problem::Skip`] if there is no bus.
pub fn agreed_version() -> Result<VmbusVersion, Problem> {
    match last_version(&command_output("dmesg")) {
        Some(version) if !text("/sys/module/hv_vmbus/initstate").is_empty() => Ok(version),
        _ => skip("there is no bus: Linux's hv_vmbus did not start"),
    }
}

/// From a line such as `hv_vmbus: Vmbus version:5.3`.
fn last_version(log: &str) -> Option<VmbusVersion> {
    let line = log.lines().rev().find_map(|line| line.split_once("Vmbus version:"))?.1;
    let (major, minor) = line.trim().split_once('.')?;
    Some(VmbusVersion::new(major.parse().ok()?, minor.parse().ok()?))
}

/// A device of the bus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Its instance's GUID.
    pub name: String,
}

/// All devices, by name.
pub fn devices() -> Vec<Device> {
    let entries = fs::read_dir("/sys/bus/vmbus/devices").into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries
        .map(|entry| Device { name: entry.file_name().to_string_lossy().into_owned() })
        .collect();
    devices.sort();
    devices
}

/// The devices, if there is a bus with any.
///
/// # Errors
///
/// [`Problem::Skip`] if not.
pub fn offered() -> Result<Vec<Device>, Problem> {
    agreed_version()?;
    let devices = devices();
    if devices.is_empty() { skip("the host offers nothing") } else { Ok(devices) }
}

/// The devices of one kind.
///
/// # Errors
///
/// [`Problem::Skip`] if there is none.
pub fn of_kind(interface: Guid, name: &str) -> Result<Vec<Device>, Problem> {
    agreed_version()?;
    let class = format!("{{{interface}}}");
    let devices: Vec<_> =
        devices().into_iter().filter(|device| device.text("class_id") == class).collect();
    if devices.is_empty() { skip(format!("the host offers no {name}")) } else { Ok(devices) }
}

impl Device {
    /// A place below its folder.
    pub fn path(&self, below: &str) -> PathBuf {
        PathBuf::from("/sys/bus/vmbus/devices").join(&self.name).join(below)
    }

    /// What such a file says.
    pub fn text(&self, below: &str) -> String {
        text(self.path(below))
    }

    /// Names in a folder below it.
    pub fn list(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The file of its primary channel.
    pub fn channel(&self, file: &str) -> String {
        format!("channels/{}/{file}", self.text("id"))
    }

    /// A count that its primary channel keeps.
    pub fn count(&self, file: &str) -> u64 {
        self.text(&self.channel(file)).parse().unwrap_or_default()
    }

    /// The driver that has it.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.path("driver")).ok()?;
        link.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// Whether its primary channel is open.
    pub fn is_open(&self) -> bool {
        self.text("state") == OPENED
    }

    fn tell_driver(&self, driver: &str, what: &str) -> CaseResult {
        let file = format!("/sys/bus/vmbus/drivers/{driver}/{what}");
        fs::write(&file, &self.name).map_err(failed(format!("{what} {} {driver}", self.name)))
    }

    /// Takes it from its driver, which closes it, does `between`, and gives it back, which opens it.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it has no driver before or after; that of `between`.
    pub fn rebind(&self, between: impl FnOnce() -> CaseResult) -> CaseResult {
        let Some(driver) = self.driver() else {
            return Err(Problem::Fail(format!("{} has no driver", self.name)));
        };
        self.tell_driver(&driver, "unbind")?;
        let result = between();
        self.tell_driver(&driver, "bind")?;
        match self.driver() {
            Some(_) => result,
            None => Err(Problem::Fail(format!("{driver} does not take {} again", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_version_in_the_log_counts() {
        let log = "[1.0] hv_vmbus: Vmbus version:5.3\n[2.0] x\n[3.0] hv_vmbus: Vmbus version:4.1\n";
        assert_eq!(last_version(log), Some(VmbusVersion::V4_1));
        for log in ["", "Vmbus version:", "Vmbus version:5", "Vmbus version:a.b"] {
            assert_eq!(last_version(log), None, "{log:?}");
        }
    }
}
