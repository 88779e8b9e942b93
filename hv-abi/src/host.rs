//! What Enlighten's own host adds beside the Hyper-V interface.
//!
//! **Not Hyper-V.** A guest finds it in a CPUID leaf range of its own and must do without it on every
//! other hypervisor. It exists because a character on an emulated UART costs one exit each, which
//! would drown the exits worth counting, and because a measurement needs a common *now*.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First leaf: EAX largest leaf of the range, EBX ECX EDX [`ENL_SIGNATURE`].
pub const ENL_CPUID_BASE: u32 = 0x4000_0100;
/// Second leaf: EAX [`HostFeatures`], EBX first of [`ENL_PORT_COUNT`] I/O ports.
pub const ENL_CPUID_FEATURES: u32 = 0x4000_0101;
/// EBX, ECX, EDX of [`ENL_CPUID_BASE`].
pub const ENL_SIGNATURE: [u8; 12] = *b"EnlightenHst";

/// The I/O port base our host uses; guests read it from [`ENL_CPUID_FEATURES`].
pub const ENL_PORT_BASE: u16 = 0x0E00;
/// Number of I/O ports from the base on.
pub const ENL_PORT_COUNT: u16 = 16;

/// Offset: a 32-bit write is the guest-physical address of a [`ConsoleBuffer`] to print.
pub const ENL_PORT_CONSOLE: u16 = 0;
/// Offset: a 32-bit write ends the virtual machine with that exit code (the low 8 bits count).
pub const ENL_PORT_EXIT: u16 = 4;
/// Offset: a 32-bit write is a [`Mark`]; the host takes a snapshot of its counters.
pub const ENL_PORT_MARK: u16 = 8;
/// Offset: a 32-bit read gives the number of long spin waits the host has seen (wrapping).
pub const ENL_PORT_LONG_SPINS: u16 = 12;

/// `isa-debug-exit` as in QEMU's documentation (`-device isa-debug-exit,iobase=0xf4,iosize=4`):
/// writing `v` ends the virtual machine with exit code `(v << 1) | 1`.
pub const ISA_DEBUG_EXIT_PORT: u16 = 0x00F4;

/// The 8-bit I/O port that our hypercall page reads to hand a call to user space. Private to the page.
///
/// The host finds the call in RCX, RDX and R8. It answers the call's status in EAX, which the page returns as
/// the result value; a number with bit 31 set says that the page is to go on and give the same call to KVM.
pub const HYPERCALL_PAGE_PORT: u8 = 0xE8;

bitflags::bitflags! {
    /// EAX of [`ENL_CPUID_FEATURES`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HostFeatures: u32 {
        /// [`ENL_PORT_CONSOLE`] works.
        const CONSOLE = 1 << 0;
        /// [`ENL_PORT_EXIT`] works.
        const EXIT = 1 << 1;
        /// [`ENL_PORT_MARK`] works.
        const MARK = 1 << 2;
        /// [`ENL_PORT_LONG_SPINS`] works.
        const LONG_SPINS = 1 << 3;
    }
}

/// Header of a text to print, in guest memory below 4 GiB; `length` bytes of UTF-8 follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConsoleBuffer {
    /// Bytes of text after this header, at most [`ENL_CONSOLE_MAX_BYTES`].
    pub length: u32,
}

const _: () = assert!(size_of::<ConsoleBuffer>() == 4);

/// Most bytes of text in one [`ConsoleBuffer`]; the host refuses more.
pub const ENL_CONSOLE_MAX_BYTES: u32 = 64 * 1024;

/// A point in the guest's life at which the host takes a snapshot of its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub u32);

impl Mark {
    /// The kernel is up: all processors run and the first test or workload is about to start.
    pub const BOOTED: Self = Self(1);
    /// A measured section begins.
    pub const MEASURE_BEGIN: Self = Self(2);
    /// A measured section ends.
    pub const MEASURE_END: Self = Self(3);
}
