//! The CPUID leaves of a VP: what KVM supports, as one socket with a core for each VP, and the
//! hypervisor's own leaves in place of KVM's.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

const HYPERVISOR_LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4FFF_FFFF;
/// V2 extended topology, whose contents KVM copies from the host.
const LEAF_V2_TOPOLOGY: u32 = 0x1F;

/// What the leaves depend on besides KVM.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// VPs in the machine.
    pub vps: u32,
    /// KVM has a TSC deadline timer (`KVM_CAP_TSC_DEADLINE_TIMER`).
    pub tsc_deadline: bool,
}

impl Topology {
    /// Bits of an APIC id that tell VPs apart.
    fn apic_id_bits(self) -> u32 {
        self.vps.next_power_of_two().trailing_zeros()
    }
}

/// The vendor string in leaf 0 (EBX, EDX, ECX); zeros if there is none.
pub fn vendor(leaves: &[kvm_cpuid_entry2]) -> [u8; 12] {
    let mut vendor = [0; 12];
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.function == 0) {
        let words = [leaf.ebx, leaf.edx, leaf.ecx];
        for (bytes, word) in vendor.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    vendor
}

/// Whether the TSC runs at one rate for ever (leaf 0x80000007, EDX bit 8).
pub fn has_invariant_tsc(leaves: &[kvm_cpuid_entry2]) -> bool {
    leaves.iter().any(|leaf| leaf.function == 0x8000_0007 && leaf.edx & 1 << 8 != 0)
}

/// The leaves of one VP. `hypervisor` replaces whatever KVM has in the hypervisor's range.
pub fn for_vp(
    supported: &[kvm_cpuid_entry2],
    hypervisor: &[kvm_cpuid_entry2],
    topology: Topology,
    vp: u32,
) -> Vec<kvm_cpuid_entry2> {
    let mut leaves: Vec<_> = supported
        .iter()
        .copied()
        .filter(|leaf| !HYPERVISOR_LEAVES.contains(&leaf.function))
        .filter(|leaf| leaf.function != LEAF_V2_TOPOLOGY && leaf.function != 0xB)
        .collect();
    for leaf in &mut leaves {
        adjust(leaf, topology, vp);
    }
    if leaves.iter().any(|leaf| leaf.function == 0 && leaf.eax >= 0xB) {
        leaves.extend(extended_topology(topology, vp));
    }
    leaves.extend_from_slice(hypervisor);
    leaves
}

fn adjust(leaf: &mut kvm_cpuid_entry2, topology: Topology, vp: u32) {
    match leaf.function {
        0x1 => features(leaf, topology, vp),
        // Intel's caches: level in EAX 7:5, sharing threads - 1 in 25:14, cores - 1 in 31:26.
        0x4 if leaf.eax & 0x1F != 0 => {
            let sharing = if leaf.eax >> 5 & 7 >= 3 { topology.vps - 1 } else { 0 };
            leaf.eax = leaf.eax & 0x3FFF | sharing << 14 | (topology.vps - 1).min(63) << 26;
        }
        // AMD: neither core-performance nor legacy-multiprocessing surprises; SVM stays hidden.
        0x8000_0001 => {
            let (svm, legacy) = (1 << 2, 1 << 1);
            leaf.ecx &= !(svm | legacy);
            if topology.vps > 1 {
                leaf.ecx |= legacy;
            }
        }
        // AMD: cores - 1 in 7:0, APIC id bits in 15:12.
        0x8000_0008 => {
            leaf.ecx = leaf.ecx & !0xF0FF | (topology.vps - 1) | topology.apic_id_bits() << 12;
        }
        // AMD's caches: as leaf 4, without the cores.
        0x8000_001D if leaf.eax & 0x1F != 0 => {
            let sharing = if leaf.eax >> 5 & 7 >= 3 { topology.vps - 1 } else { 0 };
            leaf.eax = leaf.eax & !(0xFFF << 14) | sharing << 14;
        }
        // AMD: extended APIC id, core id with one thread each, one node.
        0x8000_001E => {
            leaf.eax = vp;
            leaf.ebx = vp;
            leaf.ecx = 0;
        }
        _ => {}
    }
}

/// Leaf 1: APIC id, and the features that are the host's to decide.
fn features(leaf: &mut kvm_cpuid_entry2, topology: Topology, vp: u32) {
    let (vmx, x2apic, tsc_deadline, hypervisor) = (1 << 5, 1 << 21, 1 << 24, 1 << 31);
    let hyper_threading = 1 << 28;
    leaf.ebx = leaf.ebx & 0xFFFF | topology.vps << 16 | vp << 24;
    leaf.ecx = leaf.ecx & !(vmx | tsc_deadline) | x2apic | hypervisor;
    if topology.tsc_deadline {
        leaf.ecx |= tsc_deadline;
    }
    leaf.edx &= !hyper_threading;
    if topology.vps > 1 {
        leaf.edx |= hyper_threading;
    }
}

/// Leaf 0xB: one thread per core, all cores in one package.
fn extended_topology(topology: Topology, vp: u32) -> [kvm_cpuid_entry2; 3] {
    const LEVEL_THREAD: u32 = 1 << 8;
    const LEVEL_CORE: u32 = 2 << 8;
    let level = |index, shift, count, kind| kvm_cpuid_entry2 {
        function: 0xB,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind | index,
        edx: vp,
        ..Default::default()
    };
    [
        level(0, 0, 1, LEVEL_THREAD),
        level(1, topology.apic_id_bits(), topology.vps, LEVEL_CORE),
        level(2, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ebx: !0, ecx: !0, edx: !0, ..Default::default() }
    }

    fn supported() -> Vec<kvm_cpuid_entry2> {
        let mut leaves: Vec<_> =
            [1, 4, 0xB, 0x1F, 0x4000_0000, 0x4000_0001, 0x8000_0001, 0x8000_0008, 0x8000_001E]
                .map(|function| leaf(function, 0xFFFF_FFFF))
                .into();
        leaves.push(kvm_cpuid_entry2 {
            function: 0,
            eax: 0x1F,
            ebx: u32::from_le_bytes(*b"Auth"),
            edx: u32::from_le_bytes(*b"enti"),
            ecx: u32::from_le_bytes(*b"cAMD"),
            ..Default::default()
        });
        leaves
    }

    fn vp_leaves(vps: u32, vp: u32) -> Vec<kvm_cpuid_entry2> {
        let hypervisor = [leaf(0x4000_0000, 0x4000_0005)];
        for_vp(&supported(), &hypervisor, Topology { vps, tsc_deadline: true }, vp)
    }

    fn find(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *leaves.iter().find(|leaf| (leaf.function, leaf.index) == (function, index)).unwrap()
    }

    #[test]
    fn no_leaf_of_kvms_own_remains() {
        let leaves = vp_leaves(4, 0);
        let hypervisor: Vec<_> =
            leaves.iter().filter(|leaf| HYPERVISOR_LEAVES.contains(&leaf.function)).collect();
        assert_eq!(hypervisor.len(), 1);
        assert_eq!(hypervisor[0].eax, 0x4000_0005);
    }

    #[test]
    fn each_vp_has_its_number_as_apic_id_everywhere() {
        let leaves = vp_leaves(4, 3);
        assert_eq!(find(&leaves, 1, 0).ebx >> 24, 3);
        assert_eq!(find(&leaves, 0xB, 0).edx, 3);
        assert_eq!(find(&leaves, 0xB, 1).edx, 3);
        assert_eq!(find(&leaves, 0x8000_001E, 0).eax, 3);
    }

    #[test]
    fn all_vps_are_cores_of_one_package() {
        for (vps, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (64, 6)] {
            let leaves = vp_leaves(vps, 0);
            assert_eq!(find(&leaves, 1, 0).ebx >> 16 & 0xFF, vps);
            assert_eq!(find(&leaves, 4, 0).eax >> 26, vps - 1);
            let cores = find(&leaves, 0xB, 1);
            assert_eq!((cores.eax, cores.ebx, cores.ecx), (bits, vps, 0x201));
            let amd = find(&leaves, 0x8000_0008, 0);
            assert_eq!((amd.ecx & 0xFF, amd.ecx >> 12 & 0xF), (vps - 1, bits));
        }
    }

    #[test]
    fn nested_virtualization_is_hidden_and_the_hypervisor_is_not() {
        let leaves = vp_leaves(1, 0);
        let features = find(&leaves, 1, 0);
        assert_eq!(features.ecx & 1 << 5, 0);
        assert_ne!(features.ecx & 1 << 31, 0);
        assert_eq!(features.edx & 1 << 28, 0, "one VP has nothing to share");
        assert_eq!(find(&leaves, 0x8000_0001, 0).ecx & 1 << 2, 0);
    }

    #[test]
    fn the_deadline_timer_is_shown_only_if_kvm_has_it() {
        let without = Topology { vps: 1, tsc_deadline: false };
        let leaves = for_vp(&supported(), &[], without, 0);
        assert_eq!(find(&leaves, 1, 0).ecx & 1 << 24, 0);
        assert_ne!(find(&vp_leaves(1, 0), 1, 0).ecx & 1 << 24, 0);
    }

    #[test]
    fn an_invariant_tsc_is_one_bit() {
        let with = |edx| [kvm_cpuid_entry2 { function: 0x8000_0007, edx, ..Default::default() }];
        assert!(has_invariant_tsc(&with(1 << 8)) && !has_invariant_tsc(&with(!(1 << 8))));
        assert!(!has_invariant_tsc(&[]));
    }

    #[test]
    fn the_vendor_is_read_in_the_order_of_the_manuals() {
        assert_eq!(vendor(&supported()), *b"AuthenticAMD");
        assert_eq!(vendor(&[]), [0; 12]);
    }
}
