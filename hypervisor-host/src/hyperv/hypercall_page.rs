//! The hypercall page: code that the host puts into the guest (TLFS §3.13).
//!
//! *Theory.* A guest calls the page with the input value in RCX and does not care what is in it. KVM's
//! own page is a bare `vmcall`, and KVM answers the long-spin-wait call without telling user space.
//!
//! *Practice.* Our page looks at the call code. A long spin wait reads a private I/O port, which ends
//! up in user space with all registers; whatever is not that call, or what the host hands back, goes
//! to KVM as before. `in eax` leaves zero in the upper half of RAX, so an answer of 0 is already the
//! result value *success*. No register but RAX and the flags changes, so the call can still be handed
//! on.
//!
//! In 32-bit mode the code means the same but the call code is in EAX; such a call that happens to
//! look like a long spin wait is handed on by the host (see [`super::kvm`]).

use hv_abi::HV_PAGE_SIZE;
use hv_abi::host::HYPERCALL_PAGE_PORT;
use hv_abi::hypercall::HV_CALL_NOTIFY_LONG_SPIN_WAIT;

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
pub const PORT_READ_OFFSET: u64 = 0x0A;
/// Bytes of the `in` instruction.
pub const PORT_READ_BYTES: u64 = 2;

/// Answer: the call is done and was a success.
pub const ANSWER_DONE: u32 = 0;
/// Answer: give the same call to KVM.
pub const ANSWER_PASS_ON: u32 = 1;

/// A whole page of code; `int3` where nothing should ever run.
pub fn code(trap: TrapInstruction) -> [u8; HV_PAGE_SIZE] {
    const CODE: u8 = HV_CALL_NOTIFY_LONG_SPIN_WAIT as u8;
    let [t0, t1, t2] = trap.bytes();
    #[rustfmt::skip]
    let code = [
        0x66, 0x83, 0xF9, CODE,     // 00: cmp cx, HvCallNotifyLongSpinWait
        0x74, 0x04,                 // 04: je 0a
        t0, t1, t2,                 // 06: vmcall or vmmcall
        0xC3,                       // 09: ret
        0xE5, HYPERCALL_PAGE_PORT,  // 0a: in eax, HYPERCALL_PAGE_PORT
        0x85, 0xC0,                 // 0c: test eax, eax
        0x75, 0xF6,                 // 0e: jne 06
        0xC3,                       // 10: ret
    ];
    let mut page = [0xCC; HV_PAGE_SIZE];
    page[..code.len()].copy_from_slice(&code);
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
    /// `cmp $8,%cx; je 1f; 2: vmmcall; ret; 1: in $0xe8,%eax; test %eax,%eax; jne 2b; ret`
    const GNU_AS: [u8; 17] = [
        0x66, 0x83, 0xf9, 0x08, 0x74, 0x04, 0x0f, 0x01, 0xd9, 0xc3, 0xe5, 0xe8, 0x85, 0xc0, 0x75,
        0xf6, 0xc3,
    ];

    #[test]
    fn the_page_is_what_an_assembler_makes_of_it() {
        let page = code(TrapInstruction::Vmmcall);
        assert_eq!(page[..17], GNU_AS);
        assert!(page[17..].iter().all(|&byte| byte == 0xCC));
    }

    #[test]
    fn intel_and_amd_differ_in_the_trap_only() {
        let (intel, amd) = (code(TrapInstruction::Vmcall), code(TrapInstruction::Vmmcall));
        let differing: Vec<_> = (0..HV_PAGE_SIZE).filter(|&at| intel[at] != amd[at]).collect();
        assert_eq!(differing, [8]);
        assert_eq!(intel[6..9], [0x0F, 0x01, 0xC1]);
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
        assert!(is_port_read(0xFFFF_8000_1234_500A));
        assert!(is_port_read(0x500C));
        assert!(!is_port_read(0x5006));
        assert!(!is_port_read(0x500D));
    }
}
