//! What cases of several facilities need: reasons to skip, registers that may fault, hypercalls as raw as can be.

pub(crate) mod calls;
pub(crate) mod parameters;
pub(crate) mod registers;
pub(crate) mod spin;
pub(crate) mod synic;

use alloc::vec::Vec;

use hv_abi::cpuid::{Features, Privileges, Recommendations};
use hv_enlightenments::{Clock, HyperV, X86Cpu, vp};

use super::{Problem, TestResult, skip};
pub(crate) use crate::guest_tests::each_vp::{argument, holds_soon, on_each_vp, on_each_vp_with};
use crate::machine::clock::{self, TimeSource};
use crate::machine::cpu::CPU;
use crate::machine::hyperv;

/// The interface, or the reason to skip.
pub(crate) fn interface() -> Result<&'static HyperV, Problem> {
    hyperv::interface().ok_or(Problem::Skip("no Hyper-V interface".into()))
}

/// Skips unless the partition has the privileges.
pub(crate) fn need(privileges: Privileges) -> Result<&'static HyperV, Problem> {
    let hv = interface()?;
    if hv.privileges().contains(privileges) {
        Ok(hv)
    } else {
        skip!("not offered: privilege {:?}", privileges - hv.privileges())
    }
}

/// Skips if the partition has the privilege: for cases on how its use is refused.
pub(crate) fn without(privilege: Privileges) -> Result<&'static HyperV, Problem> {
    let hv = interface()?;
    if hv.privileges().intersects(privilege) {
        skip!("offered: privilege {:?}", privilege & hv.privileges());
    }
    Ok(hv)
}

/// Skips unless the hypervisor has the features.
pub(crate) fn need_features(features: Features) -> Result<&'static HyperV, Problem> {
    let hv = interface()?;
    if hv.features().contains(features) {
        Ok(hv)
    } else {
        skip!("not offered: feature {:?}", features - hv.features())
    }
}

/// Skips unless the hypervisor makes the recommendations.
pub(crate) fn recommended(bits: Recommendations) -> TestResult {
    let hv = interface()?;
    if hv.recommendations().contains(bits) {
        Ok(())
    } else {
        skip!("not offered: the hypervisor does not recommend {:?}", bits - hv.recommendations())
    }
}

/// The hypervisor's clock, or the reason to skip.
pub(crate) fn reference_clock() -> Result<&'static Clock<X86Cpu>, Problem> {
    interface()?;
    match clock::source() {
        Some(TimeSource::HyperV(clock)) => Ok(clock),
        _ => skip!("not offered: the partition may not read the reference counter"),
    }
}

/// The hypervisor's index of each processor, in our order.
pub(crate) fn vp_indices() -> Result<Vec<u64>, Problem> {
    need(Privileges::VP_INDEX)?;
    let none = u64::MAX;
    let values = on_each_vp(move |_| {
        hyperv::interface().and_then(|hv| vp::vp_index(&CPU, hv)).map_or(u64::MAX, u64::from)
    });
    if values.contains(&none) {
        return Err(Problem::Fail(alloc::format!("an index is too large: {values:x?}")));
    }
    Ok(values)
}
