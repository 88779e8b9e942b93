//! The study's locks exclude and count, on all processors.

use hv_enlightenments::spin_wait::SpinCounts;

use super::{TestResult, check, guest_test};
use crate::study::{Bound, Parameters, contender, measure, most_vps};

guest_test!(
    plain_spin_excludes,
    plain_tas_excludes,
    plain_ticket_excludes,
    plain_mcs_excludes,
    enlightened_spin_excludes,
    enlightened_tas_excludes,
    enlightened_ticket_excludes,
    notifying_mcs_excludes,
    idling_mcs_excludes,
    a_free_lock_costs_no_waiting,
);

fn plain_spin_excludes() -> TestResult {
    check_lock("spin", 2000)
}

fn plain_tas_excludes() -> TestResult {
    check_lock("tas", 2000)
}

fn plain_ticket_excludes() -> TestResult {
    check_ordered_lock("ticket")
}

fn enlightened_spin_excludes() -> TestResult {
    check_lock("spin-enlightened", 2000)
}

fn enlightened_tas_excludes() -> TestResult {
    check_lock("tas-enlightened", 2000)
}

fn enlightened_ticket_excludes() -> TestResult {
    check_ordered_lock("ticket-enlightened")
}

fn plain_mcs_excludes() -> TestResult {
    check_ordered_lock("mcs")
}

fn notifying_mcs_excludes() -> TestResult {
    check_ordered_lock("mcs-notifying")
}

fn idling_mcs_excludes() -> TestResult {
    check_lock("mcs-enlightened", 2000)
}

/// A lock that is taken in order of arrival. In line behind a processor that does not run, each turn may take a time
/// slice of each of the others: so few turns, and few that stand in line.
fn check_ordered_lock(name: &str) -> TestResult {
    check_lock_on(most_vps().min(8), name, 200)
}

fn check_lock(name: &str, total: u64) -> TestResult {
    check_lock_on(most_vps(), name, total)
}

/// So many processors share `total` acquisitions of the lock; none of its counter's increments may be lost.
fn check_lock_on(vps: usize, name: &str, total: u64) -> TestResult {
    let acquisitions = (total / vps as u64).max(4);
    let Some(contender) = contender(name) else {
        check!(false, "there is no lock `{name}`");
        return Ok(());
    };
    let found = measure(contender, parameters(vps, acquisitions, 20));
    let expected = acquisitions * vps as u64;
    check!(found.total == expected, "{} increments of {expected} are left", found.total);
    let counted = found.acquisitions();
    check!(counted == expected, "{counted} acquisitions of {expected} are counted");
    let spins: SpinCounts = found.per_vp().iter().map(|vp| vp.spins).sum();
    // A processor that can idle need not tell.
    let tells =
        name == "mcs-notifying" || name.ends_with("-enlightened") && name != "mcs-enlightened";
    check!(
        tells || spins.notifications == 0,
        "the lock made {} notifications",
        spins.notifications
    );
    Ok(())
}

fn parameters(vps: usize, acquisitions: u64, work: u32) -> Parameters {
    let bound = Bound::Acquisitions(acquisitions);
    Parameters { vps, bound, hold: work, gap: work, late_ticks: u64::MAX, marked: false }
}

fn a_free_lock_costs_no_waiting() -> TestResult {
    for name in kernel::cmdline::LOCK_NAMES {
        let Some(contender) = contender(name) else {
            check!(false, "there is no lock `{name}`");
            return Ok(());
        };
        let found = measure(contender, parameters(1, 1000, 0));
        let spins = found.per_vp()[0].spins;
        check!(spins == SpinCounts::default(), "{name}: {spins:?}");
    }
    Ok(())
}
