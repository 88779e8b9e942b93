//! The CPUID leaves of the Hyper-V interface and of the host's own range.
//!
//! KVM says what it can do (`KVM_GET_SUPPORTED_HV_CPUID`); of that a guest sees what this host stands
//! for. No leaf carries KVM's signature: Linux would prefer it and never look for Hyper-V.

use hv_abi::cpuid::{
    Features, HV_CPUID_ENLIGHTENMENT_INFO, HV_CPUID_FEATURES, HV_CPUID_IMPLEMENTATION_LIMITS,
    HV_CPUID_INTERFACE, HV_CPUID_MIN, HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, HV_CPUID_VERSION,
    HV_INTERFACE_SIGNATURE, HV_SPIN_WAIT_NEVER_NOTIFY, HV_VENDOR_MICROSOFT, Privileges,
    Recommendations,
};
use hv_abi::host::{
    ENL_CPUID_BASE, ENL_CPUID_FEATURES, ENL_PORT_BASE, ENL_SIGNATURE, HostFeatures,
};
use kvm_bindings::kvm_cpuid_entry2;

use super::features::Offered;
use crate::config::SpinThreshold;
use crate::layout::MAX_VPS;

/// The part of `wanted` that this KVM, and the host by itself with `own`, can serve.
pub fn served(supported: &[kvm_cpuid_entry2], own: Offered, wanted: Offered) -> Offered {
    let features = find(supported, HV_CPUID_FEATURES);
    let privileges = u64::from(features.eax) | u64::from(features.ebx) << 32;
    let advice = find(supported, HV_CPUID_ENLIGHTENMENT_INFO).eax;
    let kvms = Offered {
        privileges: Privileges::from_bits_retain(privileges),
        features: Features::from_bits_retain(features.edx),
        recommendations: Recommendations::from_bits_retain(advice),
        spin_wait: true,
    };
    wanted.intersection(kvms.union(own))
}

/// The leaves for a guest that is offered what [`served`] gave.
pub fn leaves(
    supported: &[kvm_cpuid_entry2],
    offered: Offered,
    threshold: SpinThreshold,
) -> Vec<kvm_cpuid_entry2> {
    let [vendor_b, vendor_c, vendor_d] = words(HV_VENDOR_MICROSOFT);
    let version = find(supported, HV_CPUID_VERSION);
    let privileges = offered.privileges.bits();
    let recommendations = offered.recommendations.bits();
    vec![
        leaf(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, [HV_CPUID_MIN, vendor_b, vendor_c, vendor_d]),
        leaf(HV_CPUID_INTERFACE, [HV_INTERFACE_SIGNATURE, 0, 0, 0]),
        leaf(HV_CPUID_VERSION, [version.eax, version.ebx, version.ecx, version.edx]),
        leaf(
            HV_CPUID_FEATURES,
            [privileges as u32, (privileges >> 32) as u32, 0, offered.features.bits()],
        ),
        leaf(HV_CPUID_ENLIGHTENMENT_INFO, [recommendations, threshold.0, 0, 0]),
        leaf(HV_CPUID_IMPLEMENTATION_LIMITS, [MAX_VPS, 0, 0, 0]),
    ]
}

/// The threshold that the guest is told.
pub fn threshold(offered: Offered, wanted: SpinThreshold) -> SpinThreshold {
    if offered.spin_wait { wanted } else { SpinThreshold(HV_SPIN_WAIT_NEVER_NOTIFY) }
}

fn find(supported: &[kvm_cpuid_entry2], function: u32) -> kvm_cpuid_entry2 {
    supported.iter().copied().find(|entry| entry.function == function).unwrap_or_default()
}

/// The leaves of the host's own range.
pub fn own_leaves(features: HostFeatures) -> Vec<kvm_cpuid_entry2> {
    let [b, c, d] = words(ENL_SIGNATURE);
    vec![
        leaf(ENL_CPUID_BASE, [ENL_CPUID_FEATURES, b, c, d]),
        leaf(ENL_CPUID_FEATURES, [features.bits(), ENL_PORT_BASE.into(), 0, 0]),
    ]
}

/// A hypervisor's first leaf that announces nothing, for guests without a Hyper-V interface.
pub fn no_interface() -> Vec<kvm_cpuid_entry2> {
    vec![leaf(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, [0; 4])]
}

fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

/// Twelve characters as EBX, ECX and EDX.
fn words(text: [u8; 12]) -> [u32; 3] {
    let word = |at: usize| u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]);
    [word(0), word(4), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.1 on an AMD processor answers (arch/x86/kvm/hyperv.c, kvm_get_hv_cpuid).
    fn linux_6_1() -> Vec<kvm_cpuid_entry2> {
        vec![
            leaf(0x4000_0000, [0x4000_0082, 0x756E_694C, 0x564B_2078, 0x7648_204D]),
            leaf(0x4000_0001, [0x3123_7648, 0, 0, 0]),
            leaf(0x4000_0002, [0x3839, 0x000A_0000, 0, 0]),
            leaf(0x4000_0003, [0x2AFF, 0x830, 0, 0x0008_0D52]),
            leaf(0x4000_0004, [0x2E2C, 0xFFF, 0, 0]),
            leaf(0x4000_0005, [1024, 64, 0, 0]),
            leaf(0x4000_0082, [2, 0, 0, 0]),
            leaf(0x4000_000A, [1 << 19, 0, 0, 0]),
        ]
    }

    fn shown(wanted: Offered, threshold: u32) -> Vec<kvm_cpuid_entry2> {
        leaves(&linux_6_1(), served(&linux_6_1(), Offered::OWN, wanted), SpinThreshold(threshold))
    }

    #[test]
    fn the_guest_sees_microsofts_signature_and_only_the_leaves_named() {
        let leaves = shown(Offered::default(), 4095);
        let first = find(&leaves, 0x4000_0000);
        // "Micr", "osof", "t Hv" as in TLFS §2.4.1.
        assert_eq!((first.ebx, first.ecx, first.edx), (0x7263_694D, 0x666F_736F, 0x7648_2074));
        assert_eq!(first.eax, 0x4000_0005);
        assert!(leaves.iter().all(|leaf| leaf.function <= first.eax));
        assert_eq!(find(&leaves, 0x4000_0001).eax, 0x3123_7648);
    }

    #[test]
    fn debugging_is_filtered_out_and_what_the_host_serves_is_there() {
        let features = find(&shown(Offered::ALL, 1), 0x4000_0003);
        assert_eq!(features.eax, 0x2EFF, "guest idle (bit 10) is ours");
        assert_eq!(
            features.ebx, 0x10_0030,
            "no debugging (bit 11); extended calls (bit 20) are ours"
        );
        assert_eq!(features.edx, 0x0008_0530, "no debugging (bits 1, 6, 11); guest idle (bit 5)");
    }

    #[test]
    fn what_kvm_lacks_is_never_shown() {
        let nothing = leaves(&[], served(&[], Offered::OWN, Offered::ALL), SpinThreshold(1));
        let features = find(&nothing, 0x4000_0003);
        // Only the host's own: guest idle, extended calls, crash registers.
        let own = (1 << 10, 1 << 20, 1 << 5 | 1 << 10);
        assert_eq!((features.eax, features.ebx, features.edx), own);
    }

    #[test]
    fn the_threshold_and_the_end_of_auto_eoi_are_told() {
        let info = find(&shown(Offered::default(), 77), 0x4000_0004);
        assert_eq!(info.ebx, 77);
        assert_ne!(info.eax & 1 << 9, 0);
        assert_eq!(info.eax & 1 << 3, 0, "the APIC is better reached without MSRs of Hyper-V");
    }

    #[test]
    fn what_is_switched_off_is_not_shown() {
        let off = Offered::parse_list("synic,stimer-direct,cluster-ipi").unwrap();
        let leaves = shown(Offered::default().difference(off), 1);
        let features = find(&leaves, 0x4000_0003);
        assert_eq!((features.eax & 1 << 2, features.edx & 1 << 19), (0, 0));
        assert_eq!(find(&leaves, 0x4000_0004).eax & 1 << 10, 0);
        let only = Offered::parse_list("apic-access").unwrap();
        assert_eq!(find(&shown(only, 1), 0x4000_0003).eax, 1 << 4);
        assert_eq!(find(&shown(only, 1), 0x4000_0004).eax, 1 << 3);
    }

    #[test]
    fn without_spin_waits_the_threshold_is_never() {
        let off = Offered::parse_list("spin-wait").unwrap();
        assert_eq!(threshold(Offered::ALL, SpinThreshold(9)).0, 9);
        assert_eq!(threshold(Offered::ALL.difference(off), SpinThreshold(9)).0, u32::MAX);
    }

    #[test]
    fn the_own_range_names_itself_and_its_ports() {
        let leaves = own_leaves(HostFeatures::all());
        assert_eq!(leaves[0].ebx.to_le_bytes(), *b"Enli");
        assert_eq!((leaves[0].function, leaves[0].eax), (0x4000_0100, 0x4000_0101));
        assert_eq!(leaves[1].ebx, 0x0E00);
    }
}
