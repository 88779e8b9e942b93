//! The enlightenments at work: detection, hypercall page, long spin waits; and our own host's ports.

#![expect(unsafe_code, reason = "lends pages to the hypervisor, port I/O")]

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use hv_abi::cpuid::Privileges;
use hv_abi::host::{
    ENL_PORT_CONSOLE, ENL_PORT_EXIT, ENL_PORT_LONG_SPINS, ENL_PORT_MARK, HostFeatures, Mark,
};
use hv_abi::msr::HV_X64_MSR_VP_RUNTIME;
use hv_enlightenments::detect::EnlightenHost;
use hv_enlightenments::hypercall::CallBuffer;
use hv_enlightenments::spin_wait::{LongSpinNotifier, ParkPlatform, SpinPlatform, SpinStats};
use hv_enlightenments::vp::vp_index;
use hv_enlightenments::{
    Absence, ClusterIpi, Gpa, GuestIdle, GuestOsId, HvPage, HyperV, HypercallPage, MappedPage,
    TlbFlush, X86Cpu,
};
use spin::Once;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::cpu::CPU;
use super::vp::{self, Vp};
use super::{jobs, memory, shootdown};

/// Who we tell the hypervisor we are.
pub(crate) const IDENTITY: GuestOsId = GuestOsId::open_source(1, 0);

/// A page that belongs to the hypervisor once it was lent.
struct LentPage(UnsafeCell<HvPage>);

// SAFETY: the kernel itself never touches the content.
unsafe impl Sync for LentPage {}

static HYPERCALL_PAGE: LentPage = LentPage(UnsafeCell::new(HvPage::new()));
static FOUND: Once<Found> = Once::new();
static CALLS: Once<HypercallPage<X86Cpu>> = Once::new();
static TLB: Once<TlbFlush<X86Cpu>> = Once::new();
static CLUSTER_IPI: Once<ClusterIpi<X86Cpu>> = Once::new();
static GUEST_IDLE: Once<GuestIdle<X86Cpu>> = Once::new();
static NOTIFIER: LongSpinNotifier<X86Cpu> = LongSpinNotifier::new(CPU);

/// What was found at boot.
pub(crate) struct Found {
    /// The interface, or why there is none.
    pub(crate) hyperv: Result<HyperV, Absence>,
    /// Our own host.
    pub(crate) host: Option<EnlightenHost>,
}

/// Looks for hypervisor and host; CPUID only. The result is kept.
pub(crate) fn detect() -> &'static Found {
    FOUND.call_once(|| Found { hyperv: HyperV::detect(&CPU), host: EnlightenHost::detect(&CPU) })
}

/// The interface, if there is one.
pub(crate) fn interface() -> Option<&'static HyperV> {
    detect().hyperv.as_ref().ok()
}

/// Where the hypercall page lies, for the page tables.
pub(crate) fn hypercall_page_address() -> u64 {
    HYPERCALL_PAGE.0.get().addr() as u64
}

/// Enables hypercalls, and with them the reporting of long waits. Once, on the boot processor.
pub(crate) fn init() {
    let Some(hv) = interface() else { return };
    if let Some(idle) = GuestIdle::new(CPU, hv) {
        GUEST_IDLE.call_once(|| idle);
    }
    let address = HYPERCALL_PAGE.0.get().cast();
    let gpa = Gpa(hypercall_page_address());
    // SAFETY: a page of the image that nothing else uses; virtual is physical.
    let page = NonNull::new(address).and_then(|address| unsafe { MappedPage::new(address, gpa) });
    let Some(page) = page else { return };
    // SAFETY: the page tables make the page executable, and it is never used for anything else.
    match unsafe { HypercallPage::enable(CPU, hv, IDENTITY, &page) } {
        Ok(calls) => {
            let calls = CALLS.call_once(|| calls);
            NOTIFIER.enable(calls, hv.spin_threshold());
            init_others(hv, calls);
        }
        Err(error) => log::warn!("no hypercalls: {error}"),
    }
}

/// What hypercalls and registers are recommended or offered beside reporting waits.
fn init_others(hv: &HyperV, calls: &HypercallPage<X86Cpu>) {
    if let Some(tlb) = TlbFlush::new(hv, calls) {
        TLB.call_once(|| tlb);
        give_buffer();
    }
    // The calls name processors by indices that the hypervisor may keep to itself.
    let ipi = ClusterIpi::new(hv, calls).filter(|_| vp_index(&CPU, hv).is_some());
    if let Some(ipi) = ipi {
        CLUSTER_IPI.call_once(|| ipi);
    }
}

/// Gives the flushes a page for their parameters.
fn give_buffer() {
    let Some(frame) = memory::allocate_frame() else { return };
    let Some(address) = NonNull::new(frame as *mut u8) else { return };
    // SAFETY: a frame of our own, given away for good; virtual is physical.
    if let Some(page) = unsafe { MappedPage::new(address, Gpa(frame)) } {
        shootdown::use_buffer(CallBuffer::new(page));
    }
}

/// Asks the hypervisor for its index of the processor that runs this.
pub(crate) fn learn_index(vp: &Vp) {
    vp.set_hypervisor_index(interface().and_then(|hv| vp_index(&CPU, hv)));
}

/// The calls that flush other processors' translations, if recommended.
pub(crate) fn tlb() -> Option<&'static TlbFlush<X86Cpu>> {
    TLB.get()
}

/// The calls that interrupt processors, if recommended.
pub(crate) fn cluster_ipi() -> Option<&'static ClusterIpi<X86Cpu>> {
    CLUSTER_IPI.get()
}

/// The guest idle state, if offered.
pub(crate) fn guest_idle() -> Option<&'static GuestIdle<X86Cpu>> {
    GUEST_IDLE.get()
}

/// The hypercall page, if it is enabled.
pub(crate) fn calls() -> Option<&'static HypercallPage<X86Cpu>> {
    CALLS.get()
}

/// Where long waits are told.
pub(crate) fn notifier() -> &'static LongSpinNotifier<X86Cpu> {
    &NOTIFIER
}

/// This kernel, as the locks see it.
pub(crate) struct Kernel;

impl SpinPlatform for Kernel {
    type Cpu = X86Cpu;

    fn stats() -> &'static SpinStats {
        vp::spin_stats()
    }

    fn notifier() -> &'static LongSpinNotifier<X86Cpu> {
        &NOTIFIER
    }
}

/// Time that this virtual processor ran on a processor, if the hypervisor tells. An exit.
pub(crate) fn vp_runtime_100ns() -> Option<u64> {
    let tells = interface().is_some_and(|hv| hv.privileges().contains(Privileges::VP_RUNTIME));
    // SAFETY: the hypervisor says that the register is there; reading it has no effect.
    tells.then(|| unsafe { Msr::new(HV_X64_MSR_VP_RUNTIME).read() })
}

impl ParkPlatform for Kernel {
    fn this_vp() -> u32 {
        vp::current_index()
    }

    fn idle_unless(ready: impl Fn() -> bool) -> bool {
        jobs::idle_unless(ready)
    }

    fn kick(vp: u32) {
        if let Some(vp) = vp::get(vp as usize) {
            jobs::wake(vp);
        }
    }
}

fn port(feature: HostFeatures, offset: u16) -> Option<u16> {
    detect().host.and_then(|host| host.port(feature, offset))
}

/// The port of our host's console, if offered.
pub(crate) fn console_port() -> Option<u16> {
    port(HostFeatures::CONSOLE, ENL_PORT_CONSOLE)
}

/// The port that ends the virtual machine, if offered.
pub(crate) fn exit_port() -> Option<u16> {
    port(HostFeatures::EXIT, ENL_PORT_EXIT)
}

/// Tells our host that this moment is `mark`.
pub(crate) fn mark(mark: Mark) {
    if let Some(port) = port(HostFeatures::MARK, ENL_PORT_MARK) {
        // SAFETY: our host's port; it only takes a snapshot of its counters.
        unsafe { Port::new(port).write(mark.0) };
    }
}

/// Long spin waits that our host has seen, if it tells.
pub(crate) fn long_spins_seen_by_host() -> Option<u32> {
    let port = port(HostFeatures::LONG_SPINS, ENL_PORT_LONG_SPINS)?;
    // SAFETY: our host's port; reading it has no effect.
    Some(unsafe { Port::new(port).read() })
}
