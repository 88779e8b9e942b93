//! The hypercall page: code that the host puts into the guest (TLFS §3.13).
//!
//! *Theory.* A guest calls the page with the input value in RCX and does not care what is in it. KVM's
//! own page is a bare `vmcall`, and KVM answers the long-spin-wait call without telling user space.
//!
//! *Practice.* Our page looks at the call code. Long spin waits and extended calls (codes from 0x8000 on) read
//! a private I/O port, which ends up in user space with all registers; so do cluster IPIs while a byte in the
//! page says that a VP idles with interrupts masked, for KVM tells nobody of an interrupt that can't be taken
//! yet. Whatever is none of these, or what the host hands back, goes to KVM as before. `in eax` leaves zero in
//! the upper half of RAX, so a status is already the result value. No register but RAX and the flags changes,
//! so the call can still be handed on.
//!
//! In 32-bit mode the call code is in EAX, CX is part of the parameter, and the instruction that reads the byte
//! means an absolute address: all calls go to KVM there, with EAX untouched. `63 C0` tells the modes apart:
//! `movsxd eax, eax` leaves the zero flag of the comparison before, `arpl ax, ax` clears it and nothing else.

use hv_abi::HV_PAGE_SIZE;
use hv_abi::host::HYPERCALL_PAGE_PORT;
use hv_abi::hypercall::{
    HV_CALL_NOTIFY_LONG_SPIN_WAIT, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI,
    HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX,
};

/// How a processor traps into its hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapInstruction {
    /// Intel: `vmcall`.
    Vmcall,
    /// AMD: `vmmcall`.
    Vmmcall,
}

impl TrapInstruction {
    /// The one for a processor with this vendor string in CPUID leaf 0 (EBX, EDX, ECX).
    pub fn for_vendor(vendor: [u8; 12]) -> Self {
        match &vendor {
            b"AuthenticAMD" | b"HygonGenuine" => Self::Vmmcall,
            _ => Self::Vmcall,
        }
    }

    const fn bytes(self) -> [u8; 3] {
        match self {
            Self::Vmcall => [0x0F, 0x01, 0xC1],
            Self::Vmmcall => [0x0F, 0x01, 0xD9],
        }
    }
}

/// Offset of the `in` instruction that asks the host.
pub const PORT_READ_OFFSET: u64 = 0x2A;
/// Bytes of the `in` instruction.
pub const PORT_READ_BYTES: u64 = 2;
/// Offset of the byte that is not zero while cluster IPIs should come to the host.
pub const IDLE_BYTE_OFFSET: u64 = 0xFF8;

/// Answer: give the same call to KVM. Other answers are a status.
pub const ANSWER_PASS_ON: u32 = 0x8000_0000;

/// A whole page of code; `int3` where nothing should ever run.
pub fn code(trap: TrapInstruction) -> [u8; HV_PAGE_SIZE] {
    const SPIN: u8 = HV_CALL_NOTIFY_LONG_SPIN_WAIT as u8;
    const IPI: u8 = HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI as u8;
    const IPI_EX: u8 = HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX as u8;
    const AFTER_COMPARISON: u64 = 0x28;
    let [t0, t1, t2] = trap.bytes();
    let [d0, d1, ..] = (IDLE_BYTE_OFFSET - AFTER_COMPARISON).to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0x39, 0xC0,                 // 00: cmp eax, eax
        0x63, 0xC0,                 // 02: movsxd eax, eax; in 32-bit mode arpl ax, ax
        0x75, 0x17,                 // 04: jne 1d
        0x66, 0x83, 0xF9, SPIN,     // 06: cmp cx, HvCallNotifyLongSpinWait
        0x74, 0x1E,                 // 0a: je 2a
        0x66, 0x85, 0xC9,           // 0c: test cx, cx
        0x78, 0x19,                 // 0f: js 2a
        0x66, 0x83, 0xF9, IPI,      // 11: cmp cx, HvCallSendSyntheticClusterIpi
        0x74, 0x0A,                 // 15: je 21
        0x66, 0x83, 0xF9, IPI_EX,   // 17: cmp cx, HvCallSendSyntheticClusterIpiEx
        0x74, 0x04,                 // 1b: je 21
        t0, t1, t2,                 // 1d: vmcall or vmmcall
        0xC3,                       // 20: ret
        0x80, 0x3D, d0, d1, 0, 0, 0,// 21: cmp byte [rip + IDLE_BYTE_OFFSET - 28], 0
        0x74, 0xF3,                 // 28: je 1d
        0xE5, HYPERCALL_PAGE_PORT,  // 2a: in eax, HYPERCALL_PAGE_PORT
        0x85, 0xC0,                 // 2c: test eax, eax
        0x78, 0xED,                 // 2e: js 1d
        0xC3,                       // 30: ret
    ];
    let mut page = [0xCC; HV_PAGE_SIZE];
    page[..code.len()].copy_from_slice(&code);
    page[IDLE_BYTE_OFFSET as usize] = 0;
    page
}

/// Whether an instruction pointer at a port exit can be the page's `in`. The page may be mapped
/// anywhere, so only the offset tells; KVM reports the `in` itself or, where it emulates, the
/// instruction after it.
pub fn is_port_read(instruction_pointer: u64) -> bool {
    let offset = instruction_pointer % HV_PAGE_SIZE as u64;
    (PORT_READ_OFFSET..=PORT_READ_OFFSET + PORT_READ_BYTES).contains(&offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Assembled by GNU as 2.40 from:
    /// `cmp %eax,%eax; .byte 0x63,0xc0; jne 1f; cmp $8,%cx; je 3f; test %cx,%cx; js 3f; cmp $0xb,%cx; je 2f;`
    /// `cmp $0x15,%cx; je 2f; 1: vmmcall; ret; 2: cmpb $0,flag(%rip); je 1b;`
    /// `3: in $0xe8,%eax; test %eax,%eax; js 1b; ret; .org 0xff8; flag: .byte 0`
    const GNU_AS: [u8; 49] = [
        0x39, 0xc0, 0x63, 0xc0, 0x75, 0x17, 0x66, 0x83, 0xf9, 0x08, 0x74, 0x1e, 0x66, 0x85, 0xc9,
        0x78, 0x19, 0x66, 0x83, 0xf9, 0x0b, 0x74, 0x0a, 0x66, 0x83, 0xf9, 0x15, 0x74, 0x04, 0x0f,
        0x01, 0xd9, 0xc3, 0x80, 0x3d, 0xd0, 0x0f, 0x00, 0x00, 0x00, 0x74, 0xf3, 0xe5, 0xe8, 0x85,
        0xc0, 0x78, 0xed, 0xc3,
    ];

    /// What a call first does.
    #[derive(Debug, PartialEq)]
    enum Asks {
        Kvm,
        Host,
    }

    /// Whom the page asks when it is called in 64-bit or in 32-bit mode with this CX (Intel SDM 2: `ARPL` clears
    /// ZF where the privilege levels are equal, `MOVSXD` leaves it). The register EAX must be as it was.
    fn called(long_mode: bool, cx: u16, idle: bool) -> Asks {
        let page = code(TrapInstruction::Vmmcall);
        let (mut at, mut zero, mut sign) = (0_usize, false, false);
        loop {
            let jump =
                |taken: bool| 2 + if taken { isize::from(page[at + 1].cast_signed()) } else { 0 };
            let length = match page[at..] {
                [0x39, 0xC0, ..] => {
                    zero = true;
                    2
                }
                [0x63, 0xC0, ..] => {
                    zero &= long_mode;
                    2
                }
                [0x66, 0x83, 0xF9, code, ..] => {
                    zero = cx == u16::from(code);
                    4
                }
                [0x66, 0x85, 0xC9, ..] => {
                    sign = cx & 0x8000 != 0;
                    3
                }
                [0x80, 0x3D, ..] => {
                    assert!(long_mode, "the address is relative in 64-bit mode only");
                    zero = !idle;
                    7
                }
                [0x74, ..] => jump(zero),
                [0x75, ..] => jump(!zero),
                [0x78, ..] => jump(sign),
                [0x0F, 0x01, 0xD9, ..] => return Asks::Kvm,
                [0xE5, ..] => return Asks::Host,
                _ => panic!("an instruction that this test doesn't know, at {at:#x}"),
            };
            at = at.checked_add_signed(length).unwrap();
        }
    }

    #[test]
    fn the_host_sees_its_calls_and_ipis_while_somebody_idles() {
        for (cx, busy, idle) in [
            (8, Asks::Host, Asks::Host),
            (0x8001, Asks::Host, Asks::Host),
            (0xB, Asks::Kvm, Asks::Host),
            (0x15, Asks::Kvm, Asks::Host),
            (2, Asks::Kvm, Asks::Kvm),
            (0x5C, Asks::Kvm, Asks::Kvm),
        ] {
            assert_eq!((called(true, cx, false), called(true, cx, true)), (busy, idle), "{cx:#x}");
        }
    }

    #[test]
    fn in_32_bit_mode_all_calls_go_to_kvm_whatever_their_parameter_is() {
        for cx in [8, 0xB, 0x15, 0x5C, 0x8000, 0x9234, 0xFFFF] {
            assert_eq!(called(false, cx, true), Asks::Kvm, "{cx:#x}");
        }
    }

    #[test]
    fn the_page_is_what_an_assembler_makes_of_it() {
        let page = code(TrapInstruction::Vmmcall);
        assert_eq!(page[..49], GNU_AS);
        let rest: Vec<_> = (49..HV_PAGE_SIZE).filter(|&at| page[at] != 0xCC).collect();
        assert_eq!(rest, [0xFF8], "the idle byte, which is clear");
        assert_eq!(page[0xFF8], 0);
    }

    #[test]
    fn intel_and_amd_differ_in_the_trap_only() {
        let (intel, amd) = (code(TrapInstruction::Vmcall), code(TrapInstruction::Vmmcall));
        let differing: Vec<_> = (0..HV_PAGE_SIZE).filter(|&at| intel[at] != amd[at]).collect();
        assert_eq!(differing, [0x1F]);
        assert_eq!(intel[0x1D..0x20], [0x0F, 0x01, 0xC1]);
    }

    #[test]
    fn vendors_choose_their_instruction() {
        assert_eq!(TrapInstruction::for_vendor(*b"GenuineIntel"), TrapInstruction::Vmcall);
        assert_eq!(TrapInstruction::for_vendor(*b"AuthenticAMD"), TrapInstruction::Vmmcall);
        assert_eq!(TrapInstruction::for_vendor(*b"HygonGenuine"), TrapInstruction::Vmmcall);
    }

    #[test]
    fn the_port_read_is_recognised_at_any_mapping_of_the_page() {
        assert_eq!(code(TrapInstruction::Vmcall)[PORT_READ_OFFSET as usize], 0xE5);
        assert!(is_port_read(0xFFFF_8000_1234_502A));
        assert!(is_port_read(0x502C));
        assert!(!is_port_read(0x5029));
        assert!(!is_port_read(0x502D));
    }
}
