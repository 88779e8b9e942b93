//! What a measurement found, for people and for programs.

use core::fmt;

use hv_abi::cpuid::HV_SPIN_WAIT_NEVER_NOTIFY;
use hv_enlightenments::spin_wait::SpinCounts;

use super::gauge::Gauge;
use super::locks::Contender;
use super::workload::{Bound, Measurement, Parameters};
use crate::machine::{console, hyperv};

/// Writes the line on the log and the event.
pub(super) fn report(
    contender: &Contender,
    measurement: &Measurement,
    parameters: Parameters,
    gauge: &Gauge,
) {
    let all = measurement.per_vp();
    let acquisitions = measurement.acquisitions();
    let spins: SpinCounts = all.iter().map(|vp| vp.spins).sum();
    let idles = all.iter().map(|vp| vp.idles.idles).sum();
    let kicks = all.iter().map(|vp| vp.idles.kicks).sum();
    let runtime_100ns = all.iter().map(|vp| vp.runtime_100ns).sum();
    log::info!(
        "{}: {acquisitions} acquisitions by {} VPs, {} spins, {} notifications, {} us",
        contender.name,
        parameters.vps,
        spins.iterations,
        spins.notifications,
        measurement.elapsed_100ns / 10
    );
    let threshold =
        hyperv::interface().map_or(HV_SPIN_WAIT_NEVER_NOTIFY, |hv| hv.spin_threshold().raw());
    let duration_ms = match parameters.bound {
        Bound::Time { milliseconds, .. } => milliseconds,
        Bound::Acquisitions(_) => 0,
    };
    let nanoseconds = |ticks| gauge.nanoseconds(ticks);
    let tally = &*measurement.tally;
    console::event("study", |event| {
        event
            .str("lock", contender.name)
            .number("vps", parameters.vps as u64)
            .number("hold", parameters.hold.into())
            .number("gap", parameters.gap.into())
            .number("duration_ms", duration_ms.into())
            .number("acquisitions", acquisitions)
            .number("long_spin_notifications", spins.notifications)
            .number("spin_iterations", spins.iterations)
            .number("idles", idles)
            .number("kicks", kicks)
            .number("elapsed_100ns", measurement.elapsed_100ns)
            .number("runtime_100ns", runtime_100ns)
            .number("threshold", threshold.into())
            .number("waits", tally.waits.count())
            .number("waited_ns", nanoseconds(tally.waited_ticks))
            .number("wait_p50_ns", nanoseconds(tally.waits.quantile(500)))
            .number("wait_p99_ns", nanoseconds(tally.waits.quantile(990)))
            .number("wait_max_ns", nanoseconds(tally.waits.max()))
            .number("hand_offs", tally.hand_offs)
            .number("hand_offs_asleep", tally.hand_offs_asleep)
            .number("holds_interrupted", tally.holds_interrupted)
            .number("late_ns", nanoseconds(gauge.late_ticks))
            .number("visit_ns", nanoseconds(gauge.visit_ticks))
            .number("ns_per_1000_rounds", nanoseconds(gauge.ticks_per_1000_rounds))
            .objects("wait_octaves", tally.waits.octaves(), |object, (octave, count)| {
                object.number("from_ns", nanoseconds(1 << octave)).number("count", count).end()
            })
            .objects("per_vp", all, |object, vp| -> fmt::Result {
                object
                    .number("acquisitions", vp.acquisitions)
                    .number("spin_iterations", vp.spins.iterations)
                    .number("notifications", vp.spins.notifications)
                    .number("waited_ns", nanoseconds(vp.waited_ticks))
                    .number("runtime_100ns", vp.runtime_100ns)
                    .end()
            })
            .end()
    });
}
