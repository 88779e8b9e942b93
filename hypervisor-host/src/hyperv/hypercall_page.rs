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
//! In 32-bit mode the call code is in EAX, and the instruction that reads the byte means an absolute address.
//! `63 C0` before it tells the modes apart: `movsxd eax, eax` leaves the zero flag of the comparison before,
//! `arpl ax, ax` clears it and nothing else. What looks like one of the other calls there is handed on by the
//! host (see [`super::kvm`]).

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
        0x66, 0x83, 0xF9, SPIN,     // 00: cmp cx, HvCallNotifyLongSpinWait
        0x74, 0x24,                 // 04: je 2a
        0x66, 0x85, 0xC9,           // 06: test cx, cx
        0x78, 0x1F,                 // 09: js 2a
        0x66, 0x83, 0xF9, IPI,      // 0b: cmp cx, HvCallSendSyntheticClusterIpi
        0x74, 0x0A,                 // 0f: je 1b
        0x66, 0x83, 0xF9, IPI_EX,   // 11: cmp cx, HvCallSendSyntheticClusterIpiEx
        0x74, 0x04,                 // 15: je 1b
        t0, t1, t2,                 // 17: vmcall or vmmcall
        0xC3,                       // 1a: ret
        0x39, 0xC0,                 // 1b: cmp eax, eax
        0x63, 0xC0,                 // 1d: movsxd eax, eax; in 32-bit mode arpl ax, ax
        0x75, 0xF6,                 // 1f: jne 17
        0x80, 0x3D, d0, d1, 0, 0, 0,// 21: cmp byte [rip + IDLE_BYTE_OFFSET - 28], 0
        0x74, 0xED,                 // 28: je 17
        0xE5, HYPERCALL_PAGE_PORT,  // 2a: in eax, HYPERCALL_PAGE_PORT
        0x85, 0xC0,                 // 2c: test eax, eax
        0x78, 0xE7,                 // 2e: js 17
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
    /// `cmp $8,%cx; je 3f; test %cx,%cx; js 3f; cmp $0xb,%cx; je 2f; cmp $0x15,%cx; je 2f;`
    /// `1: vmmcall; ret; 2: cmp %eax,%eax; .byte 0x63,0xc0; jne 1b; cmpb $0,flag(%rip); je 1b;`
    /// `3: in $0xe8,%eax; test %eax,%eax; js 1b; ret; .org 0xff8; flag: .byte 0`
    const GNU_AS: [u8; 49] = [
        0x66, 0x83, 0xf9, 0x08, 0x74, 0x24, 0x66, 0x85, 0xc9, 0x78, 0x1f, 0x66, 0x83, 0xf9, 0x0b,
        0x74, 0x0a, 0x66, 0x83, 0xf9, 0x15, 0x74, 0x04, 0x0f, 0x01, 0xd9, 0xc3, 0x39, 0xc0, 0x63,
        0xc0, 0x75, 0xf6, 0x80, 0x3d, 0xd0, 0x0f, 0x00, 0x00, 0x00, 0x74, 0xed, 0xe5, 0xe8, 0x85,
        0xc0, 0x78, 0xe7, 0xc3,
    ];

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
        assert_eq!(differing, [0x19]);
        assert_eq!(intel[0x17..0x1A], [0x0F, 0x01, 0xC1]);
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
        assert!(!is_port_read(0x5006));
        assert!(!is_port_read(0x502D));
    }
}
