//! CPUID leaves through which a guest finds the hypervisor and what it offers.
//!
//! All of it is in TLFS *Feature and Interface Discovery* (version 6.0b: chapter 2), each leaf under its number,
//! and agrees with Linux 6.1, `arch/x86/include/asm/hyperv-tlfs.h`. Only exceptions are marked.

use bitflags::bitflags;

/// CPUID leaf 1, ECX bit 31: a hypervisor is present.
pub const HYPERVISOR_PRESENT_ECX_BIT: u32 = 31;

/// Largest hypervisor leaf (EAX) and vendor signature (EBX, ECX, EDX).
pub const HV_CPUID_VENDOR_AND_MAX_FUNCTIONS: u32 = 0x4000_0000;
/// Interface signature in EAX, [`HV_INTERFACE_SIGNATURE`] for this specification.
pub const HV_CPUID_INTERFACE: u32 = 0x4000_0001;
/// Build number and version; may be zero.
pub const HV_CPUID_VERSION: u32 = 0x4000_0002;
/// Privileges (EAX, EBX), power (ECX) and features (EDX).
pub const HV_CPUID_FEATURES: u32 = 0x4000_0003;
/// Recommendations (EAX) and the long-spin-wait threshold (EBX).
pub const HV_CPUID_ENLIGHTENMENT_INFO: u32 = 0x4000_0004;
/// Most virtual processors (EAX), logical processors (EBX), remappable vectors (ECX).
pub const HV_CPUID_IMPLEMENTATION_LIMITS: u32 = 0x4000_0005;
/// Hardware features in use by the hypervisor.
pub const HV_CPUID_HARDWARE_FEATURES: u32 = 0x4000_0006;
/// Processor management, for the root partition.
pub const HV_CPUID_CPU_MANAGEMENT_FEATURES: u32 = 0x4000_0007;
/// Nested virtualization features.
pub const HV_CPUID_NESTED_FEATURES: u32 = 0x4000_000A;

/// EAX of [`HV_CPUID_INTERFACE`]: the characters `Hv#1`.
pub const HV_INTERFACE_SIGNATURE: u32 = u32::from_le_bytes(*b"Hv#1");
/// EBX, ECX, EDX of leaf `0x4000_0000` as Hyper-V itself fills them.
pub const HV_VENDOR_MICROSOFT: [u8; 12] = *b"Microsoft Hv";
/// The least value of EAX in leaf `0x4000_0000` that this interface allows.
pub const HV_CPUID_MIN: u32 = 0x4000_0005;
/// The largest value of EAX in leaf `0x4000_0000` that a guest believes (Linux, `HYPERV_CPUID_MAX`).
pub const HV_CPUID_MAX: u32 = 0x4000_FFFF;
/// EBX of [`HV_CPUID_ENLIGHTENMENT_INFO`] when the guest should never notify.
pub const HV_SPIN_WAIT_NEVER_NOTIFY: u32 = 0xFFFF_FFFF;

bitflags! {
    /// Partition privileges: EAX (low half) and EBX (high half) of leaf `0x4000_0003`
    /// (TLFS `HV_PARTITION_PRIVILEGE_MASK`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Privileges: u64 {
        /// `AccessVpRunTimeReg`: [`crate::msr::HV_X64_MSR_VP_RUNTIME`].
        const VP_RUNTIME = 1 << 0;
        /// `AccessPartitionReferenceCounter`: [`crate::msr::HV_X64_MSR_TIME_REF_COUNT`].
        const TIME_REF_COUNT = 1 << 1;
        /// `AccessSynicRegs`: SCONTROL to EOM, SINT0 to SINT15.
        const SYNIC = 1 << 2;
        /// `AccessSyntheticTimerRegs`: STIMER0 to STIMER3.
        const SYNTHETIC_TIMERS = 1 << 3;
        /// `AccessIntrCtrlRegs`: EOI, ICR, TPR and VP assist page.
        const APIC_ACCESS = 1 << 4;
        /// `AccessHypercallMsrs`: GUEST_OS_ID and HYPERCALL.
        const HYPERCALL = 1 << 5;
        /// `AccessVpIndex`: [`crate::msr::HV_X64_MSR_VP_INDEX`].
        const VP_INDEX = 1 << 6;
        /// `AccessResetReg`: [`crate::msr::HV_X64_MSR_RESET`].
        const RESET = 1 << 7;
        /// `AccessStatsReg`.
        const STATS = 1 << 8;
        /// `AccessPartitionReferenceTsc`: [`crate::msr::HV_X64_MSR_REFERENCE_TSC`].
        const REFERENCE_TSC = 1 << 9;
        /// `AccessGuestIdleReg`: [`crate::msr::HV_X64_MSR_GUEST_IDLE`].
        const GUEST_IDLE = 1 << 10;
        /// `AccessFrequencyRegs`: TSC and APIC frequency.
        const FREQUENCIES = 1 << 11;
        /// `AccessDebugRegs`.
        const DEBUG = 1 << 12;
        /// `AccessReenlightenmentControls`.
        const REENLIGHTENMENT = 1 << 13;
        /// `AccessTscInvariantControls` (Linux, `HV_ACCESS_TSC_INVARIANT`).
        const TSC_INVARIANT = 1 << 15;
        /// `CreatePartitions`: a root partition.
        const CREATE_PARTITIONS = 1 << 32;
        /// `AccessPartitionId`.
        const PARTITION_ID = 1 << 33;
        /// `PostMessages`: `HvCallPostMessage`.
        const POST_MESSAGES = 1 << 36;
        /// `SignalEvents`: `HvCallSignalEvent`.
        const SIGNAL_EVENTS = 1 << 37;
        /// `EnableExtendedHypercalls`.
        const EXTENDED_HYPERCALLS = 1 << 52;
    }

    /// Features: EDX of leaf `0x4000_0003`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// MWAIT may be used (deprecated by the TLFS).
        const MWAIT = 1 << 0;
        /// Guest debugging.
        const GUEST_DEBUGGING = 1 << 1;
        /// Performance monitor.
        const PERF_MONITOR = 1 << 2;
        /// A hypercall's input may be passed in XMM registers.
        const HYPERCALL_XMM_INPUT = 1 << 4;
        /// A virtual guest idle state.
        const GUEST_IDLE_STATE = 1 << 5;
        /// [`crate::msr::HV_X64_MSR_TSC_FREQUENCY`] and [`crate::msr::HV_X64_MSR_APIC_FREQUENCY`].
        const FREQUENCY_MSRS = 1 << 8;
        /// Crash registers P0 to P4 and CTL.
        const GUEST_CRASH_MSRS = 1 << 10;
        /// Debug registers.
        const DEBUG_MSRS = 1 << 11;
        /// `ExtendedGvaRangesForFlushVirtualAddressListAvailable`: [`crate::tlb::HvGvaRange::extended`].
        const EXTENDED_GVA_RANGES = 1 << 14;
        /// A hypercall's output may be returned in XMM registers.
        const HYPERCALL_XMM_OUTPUT = 1 << 15;
        /// Synthetic timers may assert an interrupt vector directly.
        const STIMER_DIRECT = 1 << 19;
    }

    /// Recommendations: EAX of leaf `0x4000_0004`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Recommendations: u32 {
        /// Hypercall for address-space switches.
        const AS_SWITCH = 1 << 0;
        /// Hypercall for local TLB flushes.
        const LOCAL_TLB_FLUSH = 1 << 1;
        /// Hypercall for remote TLB flushes.
        const REMOTE_TLB_FLUSH = 1 << 2;
        /// MSRs for the APIC's EOI, ICR and TPR.
        const APIC_ACCESS = 1 << 3;
        /// MSR for reset.
        const SYSTEM_RESET = 1 << 4;
        /// Relaxed timing: no watchdog may rely on timely interrupts.
        const RELAXED_TIMING = 1 << 5;
        /// Don't use auto-EOI.
        const DEPRECATE_AUTO_EOI = 1 << 9;
        /// Hypercall for cluster IPIs.
        const CLUSTER_IPI = 1 << 10;
        /// The `Ex` forms of calls that take processor masks.
        const EX_PROCESSOR_MASKS = 1 << 11;
        /// Enlightened VMCS for nested hypervisors.
        const ENLIGHTENED_VMCS = 1 << 14;
    }
}
