//! The engine on KVM's in-kernel Hyper-V emulation.
//!
//! KVM keeps SynIC, timers, clocks, TLB flushes and IPIs. To have the hypercall page for itself, the
//! host traps the two MSRs that control it by an MSR filter, and tells KVM the guest OS identity alone:
//! KVM takes hypercalls as soon as it knows one, page or not (Linux, kvm_hv_hypercall_enabled).
#![expect(unsafe_code, reason = "kvm-ioctls has no wrapper for KVM_GET_SUPPORTED_HV_CPUID")]

use std::sync::{Arc, Mutex};

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HV_CALL_NOTIFY_LONG_SPIN_WAIT, HypercallInput, HypercallResult};
use hv_abi::msr::{HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL};
use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_HYPERV_SYNIC2, KVM_CAP_X86_USER_SPACE_MSR, KVMIO,
    Msrs, kvm_cpuid_entry2, kvm_cpuid2, kvm_enable_cap, kvm_msr_entry,
};
use kvm_ioctls::{
    Kvm, MsrExitReason, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ptr};

use super::features::Offered;
use super::hypercall_page::{self, ANSWER_DONE, ANSWER_PASS_ON, TrapInstruction};
use super::long_spin::{self, Input};
use super::msr::HypercallMsrs;
use super::synic::lines::KvmLines;
use super::synic::{Kick, Synic};
use super::{GeneralProtection, HypervInterface, KvmFailure, VpAccess, cpuid};
use crate::config::{Policy, SpinThreshold};
use crate::stats::{SpinAnswer, VpStats, lock};

/// `_IOWR(KVMIO, 0xc1, struct kvm_cpuid2)` of `linux/kvm.h`.
const KVM_GET_SUPPORTED_HV_CPUID: libc::c_ulong =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0xC1, size_of::<kvm_cpuid2>() as u32);

/// More leaves than any kernel has.
const MAX_LEAVES: usize = 64;

/// The engine of one machine.
pub struct KvmEngine {
    leaves: Vec<kvm_cpuid_entry2>,
    offered: Offered,
    policy: Policy,
    threshold: SpinThreshold,
    memory: GuestMemoryMmap,
    msrs: Mutex<HypercallMsrs>,
    synic: Arc<Synic>,
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
    /// How its processors trap.
    pub trap: TrapInstruction,
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
        let EngineConfig { vm, memory, vps, kick, trap, policy, threshold, offered } = config;
        let supported =
            supported_leaves(kvm).map_err(KvmFailure::of("KVM_GET_SUPPORTED_HV_CPUID"))?;
        let offered = cpuid::served(supported.as_slice(), offered);
        let threshold = cpuid::threshold(offered, threshold);
        let msrs = HypercallMsrs::new(memory.clone(), hypercall_page::code(trap));
        let lines = Box::new(KvmLines::new(vm));
        let synic = Arc::new(Synic::new(memory.clone(), vps, lines, kick));
        Ok(Self {
            leaves: cpuid::leaves(supported.as_slice(), offered, threshold),
            offered,
            policy,
            threshold,
            memory,
            msrs: Mutex::new(msrs),
            synic,
        })
    }

    /// Refuses what the guest was not offered, as KVM does with the registers that it keeps.
    fn need(&self, privilege: Privileges) -> Result<(), GeneralProtection> {
        if self.offered.privileges.contains(privilege) { Ok(()) } else { Err(GeneralProtection) }
    }

    /// Counts a long spin wait and says what becomes of it.
    fn long_spin(&self, vp: &VpAccess<'_>) -> SpinAnswer {
        let Some(input) = long_spin::decode(vp.registers.rcx, vp.registers.rdx) else {
            return SpinAnswer::Refused;
        };
        let value = match input {
            Input::Register(value) => Some(value),
            Input::Memory(address) => self.read_u64(address),
        };
        let Some(value) = value else { return SpinAnswer::Refused };
        let answer = match self.threshold {
            // KVM answers that the guest was not to notify.
            SpinThreshold(hv_abi::cpuid::HV_SPIN_WAIT_NEVER_NOTIFY) => SpinAnswer::Refused,
            SpinThreshold(_) => long_spin::apply(self.policy),
        };
        let spins = long_spin::spin_count(value);
        vp.stats.count_long_spin(self.return_address(vp), spins, answer);
        answer
    }

    /// Where the page's caller goes on: the return address on its stack, or 0.
    fn return_address(&self, vp: &VpAccess<'_>) -> u64 {
        let stack = vp.registers.rsp;
        if !stack.is_multiple_of(8) {
            return 0;
        }
        match vp.vcpu.translate_gva(stack) {
            Ok(found) if found.valid != 0 => self.read_u64(found.physical_address).unwrap_or(0),
            _ => 0,
        }
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).ok()?;
        Some(u64::from_le_bytes(bytes))
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
        const _: () = assert!(HV_X64_MSR_HYPERCALL == HV_X64_MSR_GUEST_OS_ID + 1);
        let trapped = MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: HV_X64_MSR_GUEST_OS_ID,
            msr_count: 2,
            // A clear bit denies, and what is denied comes to user space.
            bitmap: &[0],
        };
        vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[trapped])
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
        self.need(Privileges::HYPERCALL)?;
        let msrs = lock(&self.msrs);
        match msr {
            HV_X64_MSR_GUEST_OS_ID => Ok(msrs.guest_os_id()),
            HV_X64_MSR_HYPERCALL => Ok(msrs.hypercall()),
            _ => Err(GeneralProtection),
        }
    }

    fn write_msr(&self, vcpu: &VcpuFd, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.need(Privileges::HYPERCALL)?;
        // Held until KVM knows the identity too, or two VPs could leave the two in disagreement.
        let mut msrs = lock(&self.msrs);
        match msr {
            HV_X64_MSR_GUEST_OS_ID => {
                tell_identity(vcpu, value)?;
                msrs.set_guest_os_id(value);
                Ok(())
            }
            HV_X64_MSR_HYPERCALL => msrs.set_hypercall(value),
            _ => Err(GeneralProtection),
        }
    }

    fn hypercall_page(&self, vp: VpAccess<'_>) -> u32 {
        if !hypercall_page::is_port_read(vp.registers.rip) {
            return u32::MAX;
        }
        if !vp.memo.long_mode {
            // Only 64-bit callers have the call code in RCX. Once seen, the mode is believed: a guest
            // that goes back deceives nobody but itself.
            vp.memo.long_mode = vp.vcpu.get_sregs().is_ok_and(|sregs| sregs.cs.l != 0);
            if !vp.memo.long_mode {
                return ANSWER_PASS_ON;
            }
        }
        vp.stats.count_call(HypercallInput(vp.registers.rcx).code());
        match self.long_spin(&vp) {
            SpinAnswer::Resumed | SpinAnswer::Yielded => ANSWER_DONE,
            SpinAnswer::Directed | SpinAnswer::Refused => ANSWER_PASS_ON,
        }
    }

    fn hypercall(&self, input: u64, parameter: u64, stats: &VpStats) -> u64 {
        let input = HypercallInput(input);
        stats.count_call(input.code());
        let status =
            self.synic.hypercall(input, parameter).map_or_else(|error| error.0.get(), |()| 0);
        HypercallResult::new(status, 0).0
    }

    fn synic(&self) -> &Arc<Synic> {
        &self.synic
    }
}

const _: () = assert!(HV_CALL_NOTIFY_LONG_SPIN_WAIT < 0x80, "it is an 8-bit immediate in the page");

/// Lets KVM know who the guest is, so that it takes hypercalls.
fn tell_identity(vcpu: &VcpuFd, value: u64) -> Result<(), GeneralProtection> {
    let entry = kvm_msr_entry { index: HV_X64_MSR_GUEST_OS_ID, data: value, ..Default::default() };
    let msrs = Msrs::from_entries(&[entry]).map_err(|_| GeneralProtection)?;
    match vcpu.set_msrs(&msrs) {
        Ok(1) => Ok(()),
        _ => Err(GeneralProtection),
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
