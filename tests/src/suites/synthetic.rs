//! Stock Linux's drivers of synthetic devices on our host: VMBus, disks, network, integration components.
//!
//! One machine for each combination. `lab.sh` runs beside it, wherever KVM is, and `guest.sh` inside ([`linux_devices`]).

use anyhow::Result;

use super::kvm::Check;
use super::linux_devices;
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Executor, Job, LinuxKind, linux_guest};
use crate::outcome::Results;
use crate::suites::trial::REPORT;
use crate::vmm::counted_vps;

/// Name of the suite.
pub const SUITE: &str = "stock Linux's drivers of synthetic devices on our host";
/// The script that runs inside the guest.
pub const GUEST_SCRIPT: &str = include_str!("synthetic/guest.sh");
/// The script beside it, from the repository.
const LAB_SCRIPT: &str = "tests/src/suites/synthetic/lab.sh";

/// A machine: processors, version of VMBus, more options.
struct Machine {
    vps: u32,
    version: &'static str,
    more: &'static [&'static str],
}

/// One with everything at the newest version that Linux 6.1 knows; and, as old as it still speaks, one with sub-channels.
/// The last can leave the bus: with synthetic timers Linux can't (docs/conformance.md).
const MACHINES: [Machine; 3] = [
    Machine { vps: 1, version: "5.3", more: &[] },
    Machine { vps: 4, version: "5.3", more: &[] },
    Machine { vps: 2, version: "3.0", more: &["--hv-disable", "synthetic-timers"] },
];

/// The jobs, each with what judges it.
///
/// # Errors
///
/// The lab's parts are missing though it is needed.
pub fn checks(
    artifacts: &Artifacts,
    executor: &Executor,
    batch: &mut Batch,
    results: &mut Results,
) -> Result<Vec<Check>> {
    let Some(parts) = linux_devices::parts(SUITE, executor, results)? else {
        return Ok(Vec::new());
    };
    let linux = linux_guest(&parts, LinuxKind::Synthetic)?;
    // The kernel is in the batch already, for the guests without devices.
    batch.add_files(&[linux.initrd_file]);
    linux_devices::add_files(artifacts, batch);
    batch.file(artifacts.root.join(LAB_SCRIPT), "lab.sh");
    let check = |machine: &Machine| {
        let Machine { vps, version, more } = machine;
        let name = format!("Linux {}, {}, VMBus {version}", linux.release, counted_vps(*vps));
        let vps = vps.to_string();
        let argv = ["sh", "./lab.sh", &vps, version, "256"].into_iter();
        let job =
            Job::new(name.as_str(), argv.chain(more.iter().copied())).timeout(400).collect(REPORT);
        Check { job, judge: Box::new(move |result| linux_devices::judge(&name, result)) }
    };
    Ok(MACHINES.iter().map(check).collect())
}
