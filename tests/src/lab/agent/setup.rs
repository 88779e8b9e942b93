//! What process 1 does before anything else: file systems, modules, environment.

use std::fs::{self, File};
use std::io;

use super::MODULE_LIST;
use crate::lab::sys;

/// File systems of the kernel's own, and where they belong.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
];

/// Prepares the lab; the inner result tells whether `/dev/kvm` is there.
pub(super) fn prepare() -> Result<Result<(), String>, String> {
    for (kind, target) in MOUNTS {
        // Some are already there, some belong below another one.
        let _exists = fs::create_dir_all(target);
        match sys::mount(&sys::c_string(kind), &sys::c_string(target)) {
            // The kernel mounts devtmpfs by itself in some configurations.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(format!("cannot mount {kind} on {target}: {error}")),
            Ok(()) => {}
        }
    }
    // Tracepoints and debug counters are a convenience.
    let _optional = sys::mount(c"tracefs", c"/sys/kernel/tracing");
    let _optional = sys::mount(c"debugfs", c"/sys/kernel/debug");
    load_modules()?;
    Ok(match fs::metadata("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("/dev/kvm: {error}")),
    })
}

/// Loads the listed modules in order. One that the kernel refuses is told and left out: without kvm-amd
/// there is no `/dev/kvm`, and the runner hears of that.
fn load_modules() -> Result<(), String> {
    let list =
        fs::read_to_string(MODULE_LIST).map_err(|error| format!("{MODULE_LIST}: {error}"))?;
    for line in list.lines() {
        let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let loaded = File::open(path)
            .and_then(|module| sys::load_module(&module, &sys::c_string(parameters)));
        match loaded {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                eprintln!("lab agent: cannot load {path}: {error}");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Release of the running kernel.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
