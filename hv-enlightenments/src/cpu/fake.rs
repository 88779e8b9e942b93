//! A processor for tests on a host, with a hypervisor behind it that misbehaves on request.

#![expect(unsafe_code, reason = "implements a trait of unsafe functions")]

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use hv_abi::cpuid::{
    Features, HV_CPUID_ENLIGHTENMENT_INFO, HV_CPUID_FEATURES, HV_CPUID_IMPLEMENTATION_LIMITS,
    HV_CPUID_INTERFACE, HV_CPUID_MIN, HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, HV_INTERFACE_SIGNATURE,
    HV_VENDOR_MICROSOFT, HYPERVISOR_PRESENT_ECX_BIT, Privileges,
};

use hv_abi::msr::{
    HV_MSR_PAGE_ENABLE, HV_X64_MSR_EOM, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL,
    HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_SCONTROL, HV_X64_MSR_SINT0, HV_X64_MSR_SINT15,
    HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_VP_INDEX,
};
use hv_abi::stimer::{HV_STIMER_COUNT, stimer_config_msr, stimer_count_msr};
use hv_abi::synic::{HV_SYNIC_FIRST_VALID_VECTOR, HvSynicSint};

use super::{Cpu, CpuidResult, FastRegisters};
use crate::lock::TasLock;
use crate::spin_wait::Bare;

/// A hypercall as the fake saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeCall {
    /// Where the page was called.
    pub page: usize,
    /// RCX, the input value.
    pub rcx: u64,
    /// RDX, R8 and, for [`Cpu::hypercall_xmm`], XMM0 to XMM5.
    pub registers: FastRegisters,
    /// Whether XMM registers were loaded.
    pub xmm: bool,
}

/// Decides the result value (RAX) of a hypercall.
type CallHandler = Arc<dyn Fn(&FakeCall) -> u64 + Send + Sync>;
/// Decides what XMM output registers hold after a hypercall.
type OutputHandler = Arc<dyn Fn(&FakeCall) -> FastRegisters + Send + Sync>;
/// Decides a register's value, given what it would be.
type MsrFilter = Arc<dyn Fn(u32, u64) -> u64 + Send + Sync>;
/// Runs before each reading of the time stamp counter, as the hypervisor on another processor would.
type TscHook = Arc<dyn Fn() + Send + Sync>;

struct State {
    leaves: BTreeMap<u32, CpuidResult>,
    msrs: BTreeMap<u32, u64>,
    calls: Vec<FakeCall>,
    msr_writes: Vec<(u32, u64)>,
    msr_reads: Vec<u32>,
    tsc: u64,
    on_call: Option<CallHandler>,
    on_output: Option<OutputHandler>,
    on_rdmsr: Option<MsrFilter>,
    on_wrmsr: Option<MsrFilter>,
    on_rdtsc: Option<TscHook>,
}

/// The processor. Use a reference to it as the [`Cpu`]; a `static` will do.
///
/// - A leaf that was not set reads as zeros.
/// - A register that was neither set nor written faults: it panics, as hardware would.
/// - A hypercall succeeds, with all elements of a rep call done, unless [`FakeCpu::on_call`] says otherwise.
/// - A call with XMM registers, where the feature is not offered, panics, as hardware would raise `#UD`.
/// - An unmasked source with a vector below 16 faults (TLFS *SINTx Registers*).
/// - The hypercall page can't be enabled while the guest's identity is zero (TLFS §3.13).
pub struct FakeCpu {
    state: TasLock<State, Bare>,
}

impl FakeCpu {
    /// A processor without a hypervisor.
    pub const fn new() -> Self {
        let state = State {
            leaves: BTreeMap::new(),
            msrs: BTreeMap::new(),
            calls: Vec::new(),
            msr_writes: Vec::new(),
            msr_reads: Vec::new(),
            tsc: 0,
            on_call: None,
            on_output: None,
            on_rdmsr: None,
            on_wrmsr: None,
            on_rdtsc: None,
        };
        Self { state: TasLock::new(state) }
    }

    /// Puts a hypervisor with the Hyper-V interface under the processor: `privileges`, `features`, and
    /// `spin_threshold` in EBX of leaf `0x4000_0004`; all registers of this crate read 0.
    pub fn with_hyperv(&self, privileges: Privileges, features: Features, spin_threshold: u32) {
        let [ebx, ecx, edx] = words(HV_VENDOR_MICROSOFT);
        let leaf = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
        self.set_leaf(1, leaf(0, 0, 1 << HYPERVISOR_PRESENT_ECX_BIT, 0));
        self.set_leaf(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, leaf(HV_CPUID_MIN, ebx, ecx, edx));
        self.set_leaf(HV_CPUID_INTERFACE, leaf(HV_INTERFACE_SIGNATURE, 0, 0, 0));
        let bits = privileges.bits();
        self.set_leaf(
            HV_CPUID_FEATURES,
            leaf(bits as u32, (bits >> 32) as u32, 0, features.bits()),
        );
        self.set_leaf(HV_CPUID_ENLIGHTENMENT_INFO, leaf(0, spin_threshold, 0, 0));
        self.set_leaf(HV_CPUID_IMPLEMENTATION_LIMITS, leaf(64, 64, 0, 0));
        for msr in [
            HV_X64_MSR_GUEST_OS_ID,
            HV_X64_MSR_HYPERCALL,
            HV_X64_MSR_VP_INDEX,
            HV_X64_MSR_TIME_REF_COUNT,
            HV_X64_MSR_REFERENCE_TSC,
        ] {
            self.set_msr(msr, 0);
        }
        self.with_synic();
    }

    /// The registers of SynIC and timers, as after a reset.
    fn with_synic(&self) {
        for msr in HV_X64_MSR_SCONTROL..=HV_X64_MSR_EOM {
            self.set_msr(msr, 0);
        }
        for msr in HV_X64_MSR_SINT0..=HV_X64_MSR_SINT15 {
            self.set_msr(msr, HvSynicSint::RESET.0);
        }
        for index in 0..HV_STIMER_COUNT {
            self.set_msr(stimer_config_msr(index), 0);
            self.set_msr(stimer_count_msr(index), 0);
        }
    }

    /// What CPUID returns for a leaf.
    pub fn set_leaf(&self, leaf: u32, result: CpuidResult) {
        self.state.lock().leaves.insert(leaf, result);
    }

    /// What a register reads.
    pub fn set_msr(&self, msr: u32, value: u64) {
        self.state.lock().msrs.insert(msr, value);
    }

    /// What the time stamp counter reads next. It grows by one with each reading.
    pub fn set_tsc(&self, tsc: u64) {
        self.state.lock().tsc = tsc;
    }

    /// Lets `handler` decide the result of each hypercall.
    pub fn on_call(&self, handler: impl Fn(&FakeCall) -> u64 + Send + Sync + 'static) {
        self.state.lock().on_call = Some(Arc::new(handler));
    }

    /// Lets `handler` decide what the registers hold after a call with XMM output; else they stay as they are.
    pub fn on_output(&self, handler: impl Fn(&FakeCall) -> FastRegisters + Send + Sync + 'static) {
        self.state.lock().on_output = Some(Arc::new(handler));
    }

    /// Lets `filter` decide what registers read, given number and value.
    pub fn on_rdmsr(&self, filter: impl Fn(u32, u64) -> u64 + Send + Sync + 'static) {
        self.state.lock().on_rdmsr = Some(Arc::new(filter));
    }

    /// Lets `filter` decide what a register holds after a write, given number and value written.
    pub fn on_wrmsr(&self, filter: impl Fn(u32, u64) -> u64 + Send + Sync + 'static) {
        self.state.lock().on_wrmsr = Some(Arc::new(filter));
    }

    /// Runs `hook` before each reading of the time stamp counter.
    pub fn on_rdtsc(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.state.lock().on_rdtsc = Some(Arc::new(hook));
    }

    /// The hypercalls so far, in order.
    pub fn calls(&self) -> Vec<FakeCall> {
        self.state.lock().calls.clone()
    }

    /// The register writes so far, in order.
    pub fn msr_writes(&self) -> Vec<(u32, u64)> {
        self.state.lock().msr_writes.clone()
    }

    /// The registers read so far, in order.
    pub fn msr_reads(&self) -> Vec<u32> {
        self.state.lock().msr_reads.clone()
    }

    fn check_feature(&self, feature: Features) {
        let offered = Features::from_bits_retain(self.cpuid(HV_CPUID_FEATURES).edx);
        assert!(offered.contains(feature), "#UD: no {feature:?}");
    }

    fn call(&self, call: FakeCall) -> u64 {
        let mut state = self.state.lock();
        state.calls.push(call);
        let handler = state.on_call.clone();
        drop(state);
        match handler {
            Some(handler) => handler(&call),
            // Success; the number of elements done is the number asked for, bits 43:32 in both values.
            None => call.rcx & 0x0FFF_0000_0000,
        }
    }
}

impl fmt::Debug for FakeCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCpu").finish_non_exhaustive()
    }
}

impl Default for FakeCpu {
    fn default() -> Self {
        Self::new()
    }
}

/// EBX, ECX and EDX of a leaf with a twelve-character signature.
pub fn words(signature: [u8; 12]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = signature;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

impl Cpu for FakeCpu {
    fn cpuid(&self, leaf: u32) -> CpuidResult {
        self.state.lock().leaves.get(&leaf).copied().unwrap_or_default()
    }

    fn rdtsc(&self) -> u64 {
        let hook = self.state.lock().on_rdtsc.clone();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.state.lock();
        let tsc = state.tsc;
        state.tsc = tsc.wrapping_add(1);
        tsc
    }

    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        let mut state = self.state.lock();
        state.msr_reads.push(msr);
        let value = state.msrs.get(&msr).copied();
        let value = value.unwrap_or_else(|| panic!("#GP: register {msr:#x} does not exist"));
        let filter = state.on_rdmsr.clone();
        drop(state);
        filter.map_or(value, |filter| filter(msr, value))
    }

    unsafe fn wrmsr(&self, msr: u32, value: u64) {
        let mut state = self.state.lock();
        assert!(state.msrs.contains_key(&msr), "#GP: register {msr:#x} does not exist");
        let sint = HvSynicSint(value);
        let bad_vector = matches!(msr, HV_X64_MSR_SINT0..=HV_X64_MSR_SINT15)
            && sint.vector() < HV_SYNIC_FIRST_VALID_VECTOR
            && !sint.is_masked();
        assert!(!bad_vector, "#GP: vector {} for a source", sint.vector());
        state.msr_writes.push((msr, value));
        let anonymous = state.msrs.get(&HV_X64_MSR_GUEST_OS_ID).is_none_or(|&id| id == 0);
        let accepted = match msr {
            HV_X64_MSR_HYPERCALL if anonymous => value & !HV_MSR_PAGE_ENABLE,
            _ => value,
        };
        let filter = state.on_wrmsr.clone();
        // The filter may use this processor.
        drop(state);
        let held = filter.map_or(accepted, |filter| filter(msr, accepted));
        self.state.lock().msrs.insert(msr, held);
    }

    unsafe fn hypercall(&self, page: NonNull<u8>, rcx: u64, rdx: u64, r8: u64) -> u64 {
        let registers = FastRegisters { general: [rdx, r8], ..FastRegisters::default() };
        self.call(FakeCall { page: page.addr().get(), rcx, registers, xmm: false })
    }

    unsafe fn hypercall_xmm(&self, page: NonNull<u8>, rcx: u64, input: &FastRegisters) -> u64 {
        self.check_feature(Features::HYPERCALL_XMM_INPUT);
        self.call(FakeCall { page: page.addr().get(), rcx, registers: *input, xmm: true })
    }

    unsafe fn hypercall_xmm_output(
        &self,
        page: NonNull<u8>,
        rcx: u64,
        registers: &mut FastRegisters,
    ) -> u64 {
        self.check_feature(Features::HYPERCALL_XMM_OUTPUT);
        let call = FakeCall { page: page.addr().get(), rcx, registers: *registers, xmm: true };
        let rax = self.call(call);
        let handler = self.state.lock().on_output.clone();
        if let Some(handler) = handler {
            *registers = handler(&call);
        }
        rax
    }
}
