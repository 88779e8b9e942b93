//! The engine on KVM's in-kernel Hyper-V emulation.
//!
//! KVM keeps SynIC, timers, clocks, TLB flushes and IPIs. To have the hypercall page for itself, the
//! host traps the two MSRs that control it by an MSR filter, and tells KVM the guest OS identity alone:
//! KVM takes hypercalls as soon as it knows one, page or not (Linux, kvm_hv_hypercall_enabled). The guest idle
//! and crash registers are ours too. What calls do is in `hyperv::calls`, what registers do in
//! `hyperv::registers`.
#![expect(unsafe_code, reason = "kvm-ioctls has no wrapper for KVM_GET_SUPPORTED_HV_CPUID")]

use std::sync::{Arc, Mutex};

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HypercallInput, HypercallResult};
use hv_abi::msr::HV_X64_MSR_TSC_INVARIANT_CONTROL;
use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_HYPERV_SYNIC2, KVM_CAP_X86_USER_SPACE_MSR, KVMIO,
    kvm_cpuid_entry2, kvm_cpuid2, kvm_enable_cap,
};
use kvm_ioctls::{
    Kvm, MsrExitReason, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd,
};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ptr};

use super::crash::{CrashRegisters, Crashes};
use super::features::Offered;
use super::hypercall_page::{self, TrapInstruction};
use super::idle::MaskedIdlers;
use super::msr::HypercallMsrs;
use super::park::RunTime;
use super::registers::{InvariantTsc, TRAPPED_MSRS};
use super::synic::lines::KvmLines;
use super::synic::{Kick, Synic};
use super::{GeneralProtection, HypervInterface, KvmFailure, VpAccess, cpuid};
use crate::config::{Policy, SpinThreshold};
use crate::stats::{VpStats, lock};

/// `_IOWR(KVMIO, 0xc1, struct kvm_cpuid2)` of `linux/kvm.h`.
const KVM_GET_SUPPORTED_HV_CPUID: libc::c_ulong =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0xC1, size_of::<kvm_cpuid2>() as u32);

/// More leaves than any kernel has.
const MAX_LEAVES: usize = 64;

/// The engine of one machine.
pub struct KvmEngine {
    leaves: Vec<kvm_cpuid_entry2>,
    pub(super) offered: Offered,
    pub(super) policy: Policy,
    pub(super) threshold: SpinThreshold,
    pub(super) memory: GuestMemoryMmap,
    pub(super) vps: u32,
    pub(super) run_time: Box<RunTime>,
    pub(super) synic: Arc<Synic>,
    pub(super) msrs: Mutex<HypercallMsrs>,
    pub(super) crash_registers: Mutex<CrashRegisters>,
    pub(super) invariant_tsc: InvariantTsc,
    pub(super) crashes: Arc<Crashes>,
    kick: Kick,
    idlers: MaskedIdlers,
}

/// What an engine is made for.
pub struct EngineConfig {
    /// The machine.
    pub vm: Arc<VmFd>,
    /// Its RAM.
    pub memory: GuestMemoryMmap,
    /// Its number of VPs.
    pub vps: u32,
    /// Brings a VP's thread back from the guest.
    pub kick: Kick,
    /// The run time of a VP's thread.
    pub run_time: Box<RunTime>,
    /// Where crashes that the guest tells are kept.
    pub crashes: Arc<Crashes>,
    /// How its processors trap.
    pub trap: TrapInstruction,
    /// Their TSC runs at one rate for ever (CPUID 0x80000007 EDX bit 8), as KVM tells it.
    pub invariant_tsc: bool,
    /// What a long spin wait leads to.
    pub policy: Policy,
    /// How long a guest should spin before it notifies.
    pub threshold: SpinThreshold,
    /// What the guest is to be offered.
    pub offered: Offered,
}

impl KvmEngine {
    /// An engine for a machine with interrupt controllers.
    ///
    /// # Errors
    /// KVM does not tell its Hyper-V leaves.
    pub fn new(kvm: &Kvm, config: EngineConfig) -> Result<Self, KvmFailure> {
        let EngineConfig { vm, memory, vps, kick, policy, run_time, crashes, .. } = config;
        let supported =
            supported_leaves(kvm).map_err(KvmFailure::of("KVM_GET_SUPPORTED_HV_CPUID"))?;
        // KVM has the register since Linux 6.2, and then hides the bit in CPUID until it is written.
        let kvms = cpuid::served(supported.as_slice(), Offered::NONE, Offered::ALL);
        let kvm_serves = kvms.privileges.contains(Privileges::TSC_INVARIANT);
        let invariant_tsc = InvariantTsc::new(config.invariant_tsc && !kvm_serves);
        let own = if invariant_tsc.served { Offered::OWN_INVARIANT_TSC } else { Offered::OWN };
        let offered = cpuid::served(supported.as_slice(), own, config.offered);
        let threshold = cpuid::threshold(offered, config.threshold);
        let msrs = HypercallMsrs::new(memory.clone(), hypercall_page::code(config.trap));
        let lines = Box::new(KvmLines::new(vm));
        let synic = Arc::new(Synic::new(memory.clone(), vps, lines, kick.clone()));
        Ok(Self {
            leaves: cpuid::leaves(supported.as_slice(), offered, threshold),
            offered,
            policy,
            threshold,
            memory,
            vps,
            run_time,
            synic,
            kick,
            msrs: Mutex::new(msrs),
            idlers: MaskedIdlers::default(),
            crash_registers: Mutex::default(),
            invariant_tsc,
            crashes,
        })
    }

    /// Ends the wait of those of these VPs that idle with interrupts masked.
    pub(super) fn interrupt_idle(&self, targets: u64) {
        for vp in self.idlers.interrupt(targets) {
            (self.kick)(vp);
        }
    }

    /// Has the page bring cluster IPIs, or not any more.
    fn update_idle_byte(&self) {
        // What is true is looked at with the lock held, so that the last one to come writes the truth.
        let mut msrs = lock(&self.msrs);
        msrs.set_somebody_idles(self.idlers.any());
    }
}

impl HypervInterface for KvmEngine {
    fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.leaves
    }

    fn prepare_machine(&self, vm: &VmFd) -> Result<(), KvmFailure> {
        let mut capability =
            kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
        capability.args[0] = MsrExitReason::Filter.bits().into();
        vm.enable_cap(&capability)
            .map_err(KvmFailure::of("KVM_ENABLE_CAP of KVM_CAP_X86_USER_SPACE_MSR"))?;
        // A clear bit denies, and what is denied comes to user space.
        let invariant_tsc =
            self.invariant_tsc.served.then_some((HV_X64_MSR_TSC_INVARIANT_CONTROL, 1));
        let trapped: Vec<_> = TRAPPED_MSRS
            .into_iter()
            .chain(invariant_tsc)
            .map(|(base, msr_count)| MsrFilterRange {
                flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
                base,
                msr_count,
                // KVM reads whole words of 64 bits, whatever the count is.
                bitmap: &[0; 8],
            })
            .collect();
        vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &trapped)
            .map_err(KvmFailure::of("KVM_X86_SET_MSR_FILTER"))
    }

    fn prepare_vp(&self, vcpu: &VcpuFd) -> Result<(), KvmFailure> {
        let synic = kvm_enable_cap { cap: KVM_CAP_HYPERV_SYNIC2, ..Default::default() };
        vcpu.enable_cap(&synic)
            .map_err(KvmFailure::of("KVM_ENABLE_CAP of KVM_CAP_HYPERV_SYNIC2"))?;
        let mut enforce =
            kvm_enable_cap { cap: KVM_CAP_HYPERV_ENFORCE_CPUID, ..Default::default() };
        enforce.args[0] = 1;
        vcpu.enable_cap(&enforce)
            .map_err(KvmFailure::of("KVM_ENABLE_CAP of KVM_CAP_HYPERV_ENFORCE_CPUID"))
    }

    fn read_msr(&self, msr: u32) -> Result<u64, GeneralProtection> {
        self.read_register(msr)
    }

    fn write_msr(
        &self,
        vp: u32,
        vcpu: &VcpuFd,
        msr: u32,
        value: u64,
    ) -> Result<(), GeneralProtection> {
        self.write_register(vp, vcpu, msr, value)
    }

    fn hypercall_page(&self, vp: VpAccess<'_>) -> u32 {
        self.page_call(vp)
    }

    fn hypercall(&self, input: u64, [parameter, output]: [u64; 2], stats: &VpStats) -> u64 {
        let input = HypercallInput(input);
        stats.count_call(input.code());
        HypercallResult::new(self.kvm_call(input, parameter, output), 0).0
    }

    fn synic(&self) -> &Arc<Synic> {
        &self.synic
    }

    fn idle_begins(&self, vp: u32) {
        if self.idlers.enter(vp) {
            self.update_idle_byte();
        }
    }

    fn idle_ends(&self, vp: u32) {
        if self.idlers.leave(vp) {
            self.update_idle_byte();
        }
    }

    fn idle_interrupted(&self, vp: u32) -> bool {
        self.idlers.was_interrupted(vp)
    }
}

/// The Hyper-V leaves that KVM supports.
pub(crate) fn supported_leaves(kvm: &Kvm) -> Result<CpuId, errno::Error> {
    let mut leaves = CpuId::new(MAX_LEAVES).map_err(|_| errno::Error::new(libc::ENOMEM))?;
    // SAFETY: `leaves` has room for the MAX_LEAVES entries that its header announces, and the kernel
    // writes no more than that.
    let result = unsafe {
        ioctl_with_mut_ptr(kvm, KVM_GET_SUPPORTED_HV_CPUID, leaves.as_mut_fam_struct_ptr())
    };
    if result < 0 { Err(errno::Error::last()) } else { Ok(leaves) }
}
