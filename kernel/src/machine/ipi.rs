//! Interrupts to other processors: by the hypervisor's call where it recommends it, else by the APIC.

#![expect(unsafe_code, reason = "interrupts processors")]

use hv_enlightenments::{Targets, VpSet};

use super::vp::Vp;
use super::{apic, hyperv};

/// How interrupts go, for people and events.
pub(crate) fn method() -> &'static str {
    if hyperv::cluster_ipi().is_some() { "hypercall" } else { "apic" }
}

/// Interrupts a processor with `vector`, which has a handler on all of them.
pub(crate) fn send(vp: &Vp, vector: u8) {
    let mask = vp.hypervisor_index().and_then(bit);
    if mask.is_none_or(|mask| !send_mask(mask, vector)) {
        apic::send(vp.apic_id, vector);
    }
}

/// Interrupts several processors, in one call where that is possible.
pub(crate) fn send_to(targets: impl Iterator<Item = &'static Vp> + Clone, vector: u8) {
    if !send_set(targets.clone(), vector) {
        targets.for_each(|vp| apic::send(vp.apic_id, vector));
    }
}

/// The bit of an index in the mask of the plain call.
fn bit(index: u32) -> Option<u64> {
    1_u64.checked_shl(index)
}

/// Whether it worked.
fn send_mask(mask: u64, vector: u8) -> bool {
    let Some(ipi) = hyperv::cluster_ipi() else { return false };
    // SAFETY: all vectors have handlers on all processors, and the entry code has enabled SSE.
    unsafe { ipi.send_mask(vector, mask) }.is_ok()
}

fn send_set(targets: impl Iterator<Item = &'static Vp> + Clone, vector: u8) -> bool {
    let Some(ipi) = hyperv::cluster_ipi() else { return false };
    let indices = targets.map(Vp::hypervisor_index);
    let mask = indices.clone().try_fold(0, |mask, index| Some(mask | bit(index?)?));
    if let Some(mask) = mask {
        return mask == 0 || send_mask(mask, vector);
    }
    let mut set = VpSet::new();
    for index in indices {
        if index.is_none_or(|index| set.insert(index).is_err()) {
            return false;
        }
    }
    // SAFETY: as in `send_mask`.
    unsafe { ipi.send(vector, Targets::Set(&set), None) }.is_ok()
}
