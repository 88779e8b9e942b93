//! Discovery against CPUID leaves as hypervisors fill them, right and wrong.

use alloc::string::ToString;

use hv_abi::host::ENL_PORT_BASE;
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::{FakeCpu, words};

const fn leaf(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
    CpuidResult { eax, ebx, ecx, edx }
}

const PRESENT: CpuidResult = leaf(0, 0, 1 << 31, 0);

fn cpu_with(leaves: &[(u32, CpuidResult)]) -> FakeCpu {
    let cpu = FakeCpu::new();
    for &(number, result) in leaves {
        cpu.set_leaf(number, result);
    }
    cpu
}

/// `cpuid -r` in a guest of Hyper-V build 20348, from a public mailing list.
const HYPER_V_20348: [(u32, CpuidResult); 7] = [
    (1, PRESENT),
    (0x4000_0000, leaf(0x4000_000a, 0x7263_694d, 0x666f_736f, 0x7648_2074)),
    (0x4000_0001, leaf(0x3123_7648, 0, 0, 0)),
    (0x4000_0002, leaf(0x0000_4f7c, 0x000a_0000, 1, 0x0000_05b6)),
    (0x4000_0003, leaf(0x0000_2e7f, 0x003b_8030, 2, 0x000e_d7b2)),
    (0x4000_0004, leaf(0x0006_4e24, 0x0000_0fff, 0x2e, 0)),
    (0x4000_0005, leaf(0x0000_00f0, 0x0000_0400, 0x0000_5d00, 0)),
];

#[test]
fn hyper_v_itself_is_read_as_it_describes_itself() {
    let hv = HyperV::detect(&cpu_with(&HYPER_V_20348)).unwrap();
    assert_eq!(hv.vendor().to_string(), "Microsoft Hv");
    assert_eq!(hv.max_leaf(), 0x4000_000A);
    assert_eq!(hv.version(), Version { major: 10, minor: 0, build: 20348 });
    assert_eq!(hv.spin_threshold().rounds(), Some(4095));
    let limits =
        Limits { virtual_processors: 240, logical_processors: 1024, interrupt_vectors: 0x5D00 };
    assert_eq!(hv.limits(), limits);
    let wanted = Privileges::HYPERCALL
        | Privileges::VP_INDEX
        | Privileges::REFERENCE_TSC
        | Privileges::TIME_REF_COUNT
        | Privileges::POST_MESSAGES
        | Privileges::SIGNAL_EVENTS;
    assert!(hv.privileges().contains(wanted));
    assert!(!hv.privileges().contains(Privileges::CREATE_PARTITIONS));
    assert!(!hv.features().contains(Features::HYPERCALL_XMM_INPUT | Features::MWAIT));
    assert!(hv.features().contains(Features::HYPERCALL_XMM_OUTPUT));
    assert!(hv.recommendations().contains(Recommendations::CLUSTER_IPI));
}

#[test]
fn bare_metal_shows_no_hypervisor_whatever_its_leaves_hold() {
    let mut leaves = HYPER_V_20348;
    leaves[0].1 = leaf(0, 0, !(1 << 31), 0);
    let cpu = cpu_with(&leaves);
    assert_eq!(HyperV::detect(&cpu), Err(Absence::NoHypervisor));
    assert_eq!(hypervisor_vendor(&cpu), None);
}

#[test]
fn other_hypervisors_are_named_and_refused() {
    // QEMU's TCG and Xen HVM, both from public dumps; KVM from Linux, Documentation/virt/kvm/x86/cpuid.rst.
    let others = [
        ("TCGTCGTCGTCG", leaf(0x4000_0001, 0x5447_4354, 0x4354_4743, 0x4743_5447), 0),
        ("XenVMMXenVMM", leaf(0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e), 0x0004_000b),
        ("KVMKVMKVM", leaf(0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d), 0x0100_7afb),
    ];
    for (name, vendor, interface) in others {
        let leaves = [(1, PRESENT), (0x4000_0000, vendor), (0x4000_0001, leaf(interface, 0, 0, 0))];
        let cpu = cpu_with(&leaves);
        let Err(Absence::OtherInterface { vendor }) = HyperV::detect(&cpu) else {
            panic!("{name} taken for Hyper-V");
        };
        assert_eq!(vendor.to_string(), name);
        assert_eq!(hypervisor_vendor(&cpu), Some(vendor));
    }
}

#[test]
fn kvm_with_its_own_leaves_moved_up_is_hyper_v() {
    let mut leaves = HYPER_V_20348.to_vec();
    leaves.push((0x4000_0100, leaf(0x4000_0101, 0x4b4d_564b, 0x564b_4d56, 0x4d)));
    let cpu = cpu_with(&leaves);
    assert!(HyperV::detect(&cpu).is_ok());
    assert_eq!(EnlightenHost::detect(&cpu), None);
}

#[test]
fn any_vendor_may_have_the_interface() {
    let mut leaves = HYPER_V_20348;
    leaves[1].1 = leaf(0x4000_0005, u32::from_le_bytes(*b"QEMU"), 0, 0);
    assert_eq!(HyperV::detect(&cpu_with(&leaves)).unwrap().vendor().to_string(), "QEMU");
}

#[test]
fn leaves_that_end_too_early_or_nowhere_are_not_believed() {
    for max_leaf in [0x4000_0001, 0x4000_0004, 0x4001_0000, u32::MAX] {
        let mut leaves = HYPER_V_20348;
        leaves[1].1.eax = max_leaf;
        let absence = HyperV::detect(&cpu_with(&leaves)).unwrap_err();
        assert!(
            matches!(absence, Absence::BadLeaves { max_leaf: claimed, .. } if claimed == max_leaf)
        );
    }
    for max_leaf in [0, 0x4000_0000, 0x0000_000D] {
        let mut leaves = HYPER_V_20348;
        leaves[1].1.eax = max_leaf;
        let absence = HyperV::detect(&cpu_with(&leaves)).unwrap_err();
        assert!(matches!(absence, Absence::OtherInterface { .. }), "{max_leaf:#x}");
    }
}

#[test]
fn a_hostile_vendor_stays_plain_text() {
    let vendor = VendorSignature(*b"\"\\\n\x1B[2J\xFF\0a\0\0");
    assert_eq!(vendor.to_string(), "????[2J??a");
    assert_eq!(VendorSignature([0; 12]).to_string(), "");
}

fn host_cpu(max_leaf: u32, features: u32, base: u32) -> FakeCpu {
    let [ebx, ecx, edx] = words(*b"EnlightenHst");
    cpu_with(&[
        (1, PRESENT),
        (0x4000_0100, leaf(max_leaf, ebx, ecx, edx)),
        (0x4000_0101, leaf(features, base, 0, 0)),
    ])
}

#[test]
fn our_own_host_is_found_with_the_ports_it_offers() {
    let host = EnlightenHost::detect(&host_cpu(0x4000_0101, 0b0011, 0x0E00)).unwrap();
    assert_eq!(host.port(HostFeatures::CONSOLE, 0), Some(ENL_PORT_BASE));
    assert_eq!(host.port(HostFeatures::EXIT, 4), Some(0x0E04));
    assert_eq!(host.port(HostFeatures::MARK, 8), None);
    assert_eq!(host.port(HostFeatures::CONSOLE, 16), None);
}

#[test]
fn a_lying_host_range_is_not_our_host() {
    assert_eq!(EnlightenHost::detect(&host_cpu(0x4000_0100, 1, 0x0E00)), None);
    assert_eq!(EnlightenHost::detect(&host_cpu(0x4000_0101, 1, 0x1_0000)), None);
    assert_eq!(EnlightenHost::detect(&host_cpu(0x4000_0101, 1, 0xFFF1)), None);
    assert!(EnlightenHost::detect(&host_cpu(0x4000_0101, 1, 0xFFF0)).is_some());
    let bare_metal = host_cpu(0x4000_0101, 1, 0x0E00);
    bare_metal.set_leaf(1, leaf(0, 0, 0, 0));
    assert_eq!(EnlightenHost::detect(&bare_metal), None);
}

fn any_leaf() -> impl Strategy<Value = CpuidResult> {
    any::<[u32; 4]>().prop_map(|[eax, ebx, ecx, edx]| leaf(eax, ebx, ecx, edx))
}

proptest! {
    #[test]
    fn any_leaves_at_all_are_read_without_panic(
        leaves in proptest::collection::vec(any_leaf(), 8),
        honest_signature: bool,
    ) {
        let cpu = FakeCpu::new();
        cpu.set_leaf(1, PRESENT);
        for (number, result) in (0x4000_0000..).zip(&leaves) {
            cpu.set_leaf(number, *result);
        }
        cpu.set_leaf(0x4000_0100, leaves[6]);
        cpu.set_leaf(0x4000_0101, leaves[7]);
        if honest_signature {
            cpu.set_leaf(0x4000_0001, leaf(0x3123_7648, 0, 0, 0));
        }
        match HyperV::detect(&cpu) {
            Ok(hv) => {
                prop_assert!((0x4000_0005..=0x4000_FFFF).contains(&hv.max_leaf()));
                prop_assert_ne!(hv.spin_threshold().rounds(), Some(0));
            }
            Err(absence) => prop_assert!(!absence.to_string().is_empty()),
        }
        let text = VendorSignature::from_leaf(leaves[0]).to_string();
        prop_assert!(text.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'));
        let _ = EnlightenHost::detect(&cpu);
    }
}
