//! The spin-wait study: processors compete for one lock, and what that costs is counted.
//!
//! [`run`] takes the locks in turn. For each, the participating processors meet, take the lock as often as
//! asked, and meet again; the others stay halted. Our host learns from marks which of its counts belong to
//! the measurement. Waiting for one another is done by other means than the locks' (`machine::jobs`), so that
//! it disturbs no count.

mod locks;
mod workload;

use core::fmt;

use hv_abi::cpuid::HV_SPIN_WAIT_NEVER_NOTIFY;
use kernel::cmdline::StudyOptions;

use self::locks::{CONTENDERS, Contender};
use self::workload::Measurement;
pub(crate) use self::workload::{Parameters, measure};
use crate::machine::console::{self, println};
use crate::machine::{exit, hyperv, vp};

/// Studies the locks in the comma-separated list; the exit code.
pub(crate) fn run(locks: &str, options: &StudyOptions) -> u8 {
    let running = most_vps();
    let vps = options.vps.map_or(running, |vps| vps as usize);
    if vps > running {
        println!(
            "cannot study with {vps} virtual processors: {running} are running; use study-vps={running} or less"
        );
        return exit::BAD_INPUT;
    }
    let parameters = Parameters {
        vps,
        acquisitions: options.acquisitions,
        hold: options.hold,
        gap: options.gap,
        marked: true,
    };
    let mut code = exit::SUCCESS;
    for name in locks.split(',') {
        let Some(contender) = contender(name) else {
            println!("cannot study `{name}`: no such lock; docs/interfaces.md names them");
            return exit::BAD_INPUT;
        };
        let measurement = measure(contender, parameters);
        report(contender, &measurement, parameters);
        let expected = parameters.acquisitions * vps as u64;
        if measurement.total != expected {
            println!(
                "{name} does not exclude: {} increments of {expected} are left",
                measurement.total
            );
            code = exit::FAILURE;
        }
    }
    if let Some(refusal) = hyperv::notifier().refusal() {
        log::warn!("the hypervisor refused to be told of long waits: {refusal}");
    }
    code
}

/// How many processors can take part: the first ones do, so that none of them may be missing.
pub(crate) fn most_vps() -> usize {
    vp::online().zip(0..).take_while(|(vp, index)| vp.index == *index).count()
}

/// The lock of that name.
pub(crate) fn contender(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name == name)
}

fn report(contender: &Contender, measurement: &Measurement, parameters: Parameters) {
    let all = measurement.per_vp[..parameters.vps].iter();
    let acquisitions: u64 = all.clone().map(|vp| vp.acquisitions).sum();
    let spins: u64 = all.clone().map(|vp| vp.spins.iterations).sum();
    let notifications: u64 = all.clone().map(|vp| vp.spins.notifications).sum();
    log::info!(
        "{}: {acquisitions} acquisitions by {} VPs, {spins} spins, {notifications} notifications, {} us",
        contender.name,
        parameters.vps,
        measurement.elapsed_100ns / 10
    );
    let threshold =
        hyperv::interface().map_or(HV_SPIN_WAIT_NEVER_NOTIFY, |hv| hv.spin_threshold().raw());
    console::event("study", |event| {
        event
            .str("lock", contender.name)
            .number("vps", parameters.vps as u64)
            .number("acquisitions", acquisitions)
            .number("long_spin_notifications", notifications)
            .number("spin_iterations", spins)
            .number("elapsed_100ns", measurement.elapsed_100ns)
            .number("threshold", threshold.into())
            .objects("per_vp", all, |object, vp| -> fmt::Result {
                object
                    .number("acquisitions", vp.acquisitions)
                    .number("spin_iterations", vp.spins.iterations)
                    .number("notifications", vp.spins.notifications)
                    .end()
            })
            .end()
    });
}
