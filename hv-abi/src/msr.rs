//! Synthetic model-specific registers, spelled as in the TLFS.
//!
//! All numbers agree with Linux 6.1, `arch/x86/include/asm/hyperv-tlfs.h`.

/// Guest OS identity; zero until the guest says who it is (TLFS §2.6).
pub const HV_X64_MSR_GUEST_OS_ID: u32 = 0x4000_0000;
/// Hypercall page: bit 0 enable, bit 1 locked, bits 63:12 page number (TLFS §3.13).
pub const HV_X64_MSR_HYPERCALL: u32 = 0x4000_0001;
/// Index of the virtual processor, read-only (TLFS *Virtual Processor Indices*).
pub const HV_X64_MSR_VP_INDEX: u32 = 0x4000_0002;
/// Writing bit 0 resets the partition (TLFS `AccessResetReg`; Linux, KVM `hyperv.c`).
pub const HV_X64_MSR_RESET: u32 = 0x4000_0003;
/// Run time of the virtual processor in 100 ns, read-only (TLFS *Virtual Processor Run Time Register*).
pub const HV_X64_MSR_VP_RUNTIME: u32 = 0x4000_0010;
/// Partition reference counter in 100 ns, read-only (TLFS *Partition Reference Counter MSR*).
pub const HV_X64_MSR_TIME_REF_COUNT: u32 = 0x4000_0020;
/// Reference TSC page: bit 0 enable, bits 63:12 page number (TLFS *Reference Time Stamp Counter (TSC) Page MSR*).
pub const HV_X64_MSR_REFERENCE_TSC: u32 = 0x4000_0021;
/// TSC frequency in Hz, read-only (TLFS `AccessFrequencyRegs`; Linux).
pub const HV_X64_MSR_TSC_FREQUENCY: u32 = 0x4000_0022;
/// APIC timer frequency in Hz, read-only (TLFS `AccessFrequencyRegs`; Linux).
pub const HV_X64_MSR_APIC_FREQUENCY: u32 = 0x4000_0023;
/// APIC end of interrupt (TLFS *Local APIC MSR Accesses*).
pub const HV_X64_MSR_EOI: u32 = 0x4000_0070;
/// APIC interrupt command (TLFS *Local APIC MSR Accesses*).
pub const HV_X64_MSR_ICR: u32 = 0x4000_0071;
/// APIC task priority (TLFS *Local APIC MSR Accesses*).
pub const HV_X64_MSR_TPR: u32 = 0x4000_0072;
/// VP assist page (TLFS *Virtual Processor Assist Page*).
pub const HV_X64_MSR_VP_ASSIST_PAGE: u32 = 0x4000_0073;
/// SynIC control (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SCONTROL: u32 = 0x4000_0080;
/// SynIC version, read-only (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SVERSION: u32 = 0x4000_0081;
/// SynIC event flags page (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SIEFP: u32 = 0x4000_0082;
/// SynIC message page (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SIMP: u32 = 0x4000_0083;
/// SynIC end of message (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_EOM: u32 = 0x4000_0084;
/// First of sixteen synthetic interrupt sources (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SINT0: u32 = 0x4000_0090;
/// Last of sixteen synthetic interrupt sources (TLFS *SynIC MSRs*).
pub const HV_X64_MSR_SINT15: u32 = 0x4000_009F;
/// First configuration register of four synthetic timers; the others follow at steps of 2
/// ([`crate::stimer::stimer_config_msr`]).
pub const HV_X64_MSR_STIMER0_CONFIG: u32 = 0x4000_00B0;
/// First count register of four synthetic timers; the others follow at steps of 2
/// ([`crate::stimer::stimer_count_msr`]).
pub const HV_X64_MSR_STIMER0_COUNT: u32 = 0x4000_00B1;
/// Guest idle: reading it waits for an interrupt (TLFS *Virtual Processor Idle Sleep State*).
pub const HV_X64_MSR_GUEST_IDLE: u32 = 0x4000_00F0;
/// First of five crash parameters (TLFS *Guest Crash Enlightenment Interface*).
pub const HV_X64_MSR_CRASH_P0: u32 = 0x4000_0100;
/// Last of five crash parameters (TLFS *Guest Crash Enlightenment Interface*).
pub const HV_X64_MSR_CRASH_P4: u32 = 0x4000_0104;
/// Crash control (TLFS *Guest Crash Enlightenment Interface*).
pub const HV_X64_MSR_CRASH_CTL: u32 = 0x4000_0105;
/// Re-enlightenment notification: [`crate::clock::HvReenlightenmentControl`] (TLFS *Reenlightenment*; Linux).
pub const HV_X64_MSR_REENLIGHTENMENT_CONTROL: u32 = 0x4000_0106;
/// TSC emulation: bit 0 enabled (TLFS; Linux, `struct hv_tsc_emulation_control`).
pub const HV_X64_MSR_TSC_EMULATION_CONTROL: u32 = 0x4000_0107;
/// TSC emulation status: bit 0 in progress; the guest writes 0 (TLFS; Linux, `struct hv_tsc_emulation_status`).
pub const HV_X64_MSR_TSC_EMULATION_STATUS: u32 = 0x4000_0108;
/// TSC invariant control: bit 0 shows the processor's invariant TSC in CPUID 0x80000007 (TLFS; Linux).
pub const HV_X64_MSR_TSC_INVARIANT_CONTROL: u32 = 0x4000_0118;

/// `CrashMessage` in [`HV_X64_MSR_CRASH_CTL`]: P3 is the guest-physical address of a message, P4 its length in bytes
/// (TLFS `HV_CRASH_CTL_REG_CONTENTS`).
pub const HV_CRASH_CTL_CRASH_MESSAGE: u64 = 1 << 62;
/// `CrashNotify` in [`HV_X64_MSR_CRASH_CTL`]: take note of the crash parameters now (TLFS
/// `HV_CRASH_CTL_REG_CONTENTS`).
pub const HV_CRASH_CTL_CRASH_NOTIFY: u64 = 1 << 63;

/// Enable bit of the registers that name a page: HYPERCALL, REFERENCE_TSC, SIMP, SIEFP, VP_ASSIST_PAGE.
pub const HV_MSR_PAGE_ENABLE: u64 = 1;
/// Locked bit of [`HV_X64_MSR_HYPERCALL`]: the register is read-only until reset (TLFS §3.13).
pub const HV_MSR_HYPERCALL_LOCKED: u64 = 2;
/// Address bits of the registers that name a page.
pub const HV_MSR_PAGE_ADDRESS_MASK: u64 = !0xFFF;

/// The guest OS identity of an open-source kernel (TLFS §2.6, *Guest OS Identity MSR for Open Source Operating Systems*).
///
/// Bit 63 open source, 62:56 OS type, 55:48 distribution, 47:16 version, 15:0 build.
pub const fn guest_os_id(os_type: u8, distribution: u8, version: u32, build: u16) -> u64 {
    1 << 63
        | ((os_type & 0x7F) as u64) << 56
        | (distribution as u64) << 48
        | (version as u64) << 16
        | build as u64
}

/// OS type for [`guest_os_id`]: none that the TLFS has given a number to (Linux is 1, FreeBSD 2, Xen 3, illumos 4).
pub const HV_OS_TYPE_UNASSIGNED: u8 = 0x7F;
