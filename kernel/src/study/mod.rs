//! The spin-wait study: processors compete for one lock, and what that costs is counted.
//!
//! [`run`] takes the locks in turn. For each, the participating processors meet, take the lock as often or as
//! long as asked, and meet again; the others stay halted. Our host learns from marks which of its counts belong
//! to the measurement. Waiting for one another is done by other means than the locks' (`machine::jobs`), so that
//! it disturbs no count.
//!
//! - [`locks`]: the contenders
//! - [`workload`]: one measurement
//! - [`gauge`]: what this machine's times are to be held against
//! - [`report`]: the line on the log and the event

mod gauge;
mod locks;
mod report;
mod workload;

use kernel::cmdline::{self, StudyOptions};

use self::gauge::Gauge;
use self::locks::{CONTENDERS, Contender};
pub(crate) use self::workload::{Bound, Parameters, measure};
use crate::machine::console::println;
use crate::machine::{exit, hyperv, jobs, vp};

/// Studies the locks in the list; the exit code.
pub(crate) fn run(locks: &str, options: &StudyOptions) -> u8 {
    let running = most_vps();
    let default_vps = options.vps.map_or(running, |vps| vps as usize);
    let vps_of = |given: Option<u32>| given.map_or(default_vps, |vps| vps as usize);
    let most = cmdline::entries(locks).map(|(_, vps)| vps_of(vps)).max().unwrap_or(default_vps);
    if most > running {
        println!(
            "cannot study with {most} virtual processors: {running} are running; use study-vps={running} or less"
        );
        return exit::BAD_INPUT;
    }
    jobs::halt_bystanders();
    let gauge = Gauge::take();
    let bound = match options.duration_ms {
        Some(milliseconds) => Bound::Time { milliseconds, ticks: gauge.ticks(milliseconds) },
        None => Bound::Acquisitions(options.acquisitions),
    };
    let mut code = exit::SUCCESS;
    for (name, vps) in cmdline::entries(locks) {
        let Some(contender) = contender(name) else {
            println!("cannot study `{name}`: no such lock; docs/interfaces.md names them");
            return exit::BAD_INPUT;
        };
        let parameters = Parameters {
            vps: vps_of(vps),
            bound,
            hold: options.hold,
            gap: options.gap,
            late_ticks: gauge.late_ticks,
            marked: true,
        };
        if !study(contender, parameters, &gauge) {
            code = exit::FAILURE;
        }
    }
    if let Some(refusal) = hyperv::notifier().refusal() {
        log::warn!("the hypervisor refused to be told of long waits: {refusal}");
    }
    code
}

/// Studies one lock; whether it excluded.
fn study(contender: &Contender, parameters: Parameters, gauge: &Gauge) -> bool {
    let measurement = measure(contender, parameters);
    report::report(contender, &measurement, parameters, gauge);
    let expected = measurement.acquisitions();
    if measurement.total != expected {
        println!(
            "{} does not exclude: {} increments of {expected} are left",
            contender.name, measurement.total
        );
    }
    measurement.total == expected
}

/// How many processors can take part: the first ones do, so that none of them may be missing.
pub(crate) fn most_vps() -> usize {
    vp::online().zip(0..).take_while(|(vp, index)| vp.index == *index).count()
}

/// The lock of that name.
pub(crate) fn contender(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name == name)
}
