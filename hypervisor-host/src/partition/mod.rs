//! A machine: RAM, VPs, the in-kernel interrupt controllers and timers, all from KVM.
//!
//! - [`memory`]: guest RAM
//! - [`cpuid`], [`registers`]: what a VP is when it starts
//! - [`exit`], [`run_loop`]: what happens when it leaves the guest
//! - [`vp`], [`kick`], [`alarm`]: the threads
//! - [`idling`]: VPs that wait
//! - [`shared`]: what they have in common

pub mod alarm;
pub mod cpuid;
pub mod exit;
pub mod idling;
pub mod kick;
pub mod memory;
pub mod registers;
pub mod run_loop;
pub mod shared;
pub mod vp;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kvm_bindings::{
    CpuId, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, KVM_CAP_TSC_DEADLINE_TIMER, KVM_MAX_CPUID_ENTRIES,
    KVM_PIT_SPEAKER_DUMMY, KVM_SYNC_X86_REGS, Msrs, kvm_cpuid_entry2, kvm_enable_cap,
    kvm_lapic_state, kvm_msr_entry, kvm_pit_config,
};
use kvm_ioctls::{Kvm, SyncReg, VcpuFd, VmFd};
use vm_memory::{GuestMemoryError, GuestMemoryMmap};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use self::cpuid::Topology;
use self::kick::VpKicks;
use self::memory::GuestRam;
use self::shared::Shared;
use self::vp::VpThreads;
use crate::config::MachineConfig;
use crate::emulated::acpi_pm::AcpiPm;
use crate::emulated::cmos::Cmos;
use crate::emulated::enl_ports::EnlPorts;
use crate::emulated::exit::DebugExit;
use crate::emulated::pci::plan::BuildError;
use crate::emulated::pci::ports::ConfigPorts;
use crate::emulated::pci::{IrqLines, PciBus, PciPlan};
use crate::emulated::power::{AcpiPower, KeyboardController, ResetControl};
use crate::emulated::testdev::{self, memory::TestMemory};
use crate::emulated::uart::{self, UartInput};
use crate::emulated::{Output, PortBus};
use crate::hyperv::crash::Crashes;
use crate::hyperv::hypercall_page::TrapInstruction;
use crate::hyperv::kvm::{EngineConfig, KvmEngine};
use crate::hyperv::synic::Synic;
use crate::hyperv::{HypervInterface, KvmFailure, cpuid as hyperv_cpuid};
use crate::layout::{COM1_IRQ, COM1_PORT, KVM_IDENTITY_MAP_ADDRESS, KVM_TSS_ADDRESS};
use crate::loader::Boot;
use crate::outcome::Ending;
use crate::stats::VpStats;
use crate::stats::gauges::Gauges;
use crate::stats::instructions::GuestInstructions;
use crate::stats::kvm::KvmStats;
use crate::vmbus::{ServerOptions, StartError, VmbusServer};

/// A machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// KVM refuses something.
    #[error("cannot build the machine: {0}; `hypervisor-host check` tells what this KVM lacks")]
    Kvm(#[from] KvmFailure),
    /// The operating system refuses something.
    #[error("cannot build the machine: {what}: {error}; look at the limits of this process")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The bus of synthetic devices.
    #[error("cannot build the machine: {0}; look at the limits of this process")]
    Vmbus(#[from] StartError),
    /// The bus of emulated devices.
    #[error(
        "cannot build the machine: {0}; give fewer devices, or look at the limits of this process"
    )]
    Pci(#[from] BuildError),
    /// Boot data does not fit.
    #[error("cannot write boot data into guest RAM: {0}; give more by --memory")]
    Memory(#[from] GuestMemoryError),
}

impl PartitionError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}

/// A machine that is ready to start.
pub struct Partition {
    // Dropped in this order: VPs, then the machine, then its RAM.
    vps: Vec<(VcpuFd, Option<usize>)>,
    shared: Arc<Shared>,
    uart_input: UartInput,
    vm: Arc<VmFd>,
    ram: GuestRam,
}

impl Partition {
    /// Builds a machine on `kvm` whose RAM holds a kernel already.
    ///
    /// # Errors
    /// KVM or the operating system refuses a part.
    pub fn new(
        kvm: &Kvm,
        config: &MachineConfig,
        ram: GuestRam,
        boot: Boot,
        output: &Output,
        emulated: Option<PciPlan>,
    ) -> Result<Self, PartitionError> {
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmFailure::of("KVM_GET_SUPPORTED_CPUID"))?;
        let vm = Arc::new(create_vm(kvm)?);
        let kicks = Arc::new(VpKicks::new(config.vps.get()));
        let no_descriptor = || PartitionError::system("no event descriptor");
        let crashes = Arc::new(Crashes::new().map_err(no_descriptor())?);
        let hyperv = hyperv_interface(
            kvm,
            config,
            &vm,
            ram.guest(),
            supported.as_slice(),
            &kicks,
            &crashes,
        )?;
        if let Some(hyperv) = &hyperv {
            hyperv.prepare_machine(&vm)?;
        }
        let vmbus = match &hyperv {
            Some(hyperv) if config.has_vmbus() => Some(vmbus(config, hyperv.synic(), ram.guest())?),
            _ => None,
        };
        ram.attach(&vm).map_err(KvmFailure::of("KVM_SET_USER_MEMORY_REGION"))?;

        let count = config.vps.get();
        let stats: Arc<[VpStats]> = (0..count).map(|_| VpStats::default()).collect();
        let (mut ports, uart_input) = devices(&vm, ram.guest(), output, &stats)?;
        let pci = emulated.map(|plan| pci_bus(&mut ports, &vm, ram.guest(), plan)).transpose()?;
        if pci.is_none() {
            ports.add(ResetControl::PORT, 1, ResetControl::new());
        }
        if config.test_devices {
            let (ram_bytes, set_line) = (config.ram.bytes(), line_setter(vm.clone()));
            let synic = hyperv.as_ref().map(|hyperv| hyperv.synic());
            testdev::add_ports(&mut ports, count, ram_bytes, synic, set_line);
        }

        let topology = Topology {
            vps: count,
            tsc_deadline: kvm.check_extension_raw(KVM_CAP_TSC_DEADLINE_TIMER.into()) > 0,
        };
        let mut hypervisor_leaves =
            hyperv.as_ref().map_or_else(hyperv_cpuid::no_interface, |it| it.cpuid().to_vec());
        hypervisor_leaves.extend(hyperv_cpuid::own_leaves(EnlPorts::FEATURES));
        let mut vps = Vec::new();
        for index in 0..count {
            let leaves = cpuid::for_vp(supported.as_slice(), &hypervisor_leaves, topology, index);
            vps.push(create_vp(&vm, index, &leaves, hyperv.as_deref())?);
        }
        if let Some(first) = vps.first() {
            set_boot_registers(first, ram.guest(), boot)?;
        }

        let kernel_stats = vps.iter().map_while(KvmStats::open).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            ending: Ending::new().map_err(no_descriptor())?,
            crashes,
            ports,
            pci,
            test_memory: config.test_devices.then(TestMemory::default),
            kicks,
            hyperv,
            vmbus,
            kernel_stats: if kernel_stats.len() == vps.len() { kernel_stats } else { Vec::new() },
            kernel_vm_stats: KvmStats::open(&vm),
            vps: stats,
            instructions: GuestInstructions::new(count),
            gauges: Gauges::default(),
            started: Instant::now(),
            marks: Mutex::default(),
        });
        let vps = (0..).zip(vps).map(|(index, vp)| (vp, config.cpus.for_vp(index))).collect();
        Ok(Self { vps, shared, uart_input, vm, ram })
    }

    /// The bus of synthetic devices, if the machine has one.
    pub fn vmbus(&self) -> Option<&Arc<VmbusServer>> {
        self.shared.vmbus.as_ref()
    }

    /// What devices count; the machine's snapshots have it.
    pub fn gauges(&self) -> &Gauges {
        &self.shared.gauges
    }

    /// The machine, for KVM.
    pub fn vm(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// Starts all VPs.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(self) -> Result<Running, PartitionError> {
        let threads = VpThreads::start(self.vps, &self.shared)
            .map_err(PartitionError::system("no thread for a VP"))?;
        Ok(Running {
            shared: self.shared,
            uart_input: self.uart_input,
            threads,
            ram: self.ram,
            _vm: self.vm,
        })
    }
}

/// A machine that runs.
pub struct Running {
    /// What its parts share.
    pub shared: Arc<Shared>,
    /// Where typed bytes go.
    pub uart_input: UartInput,
    /// Its VPs.
    pub threads: VpThreads,
    /// Its RAM.
    pub ram: GuestRam,
    _vm: Arc<VmFd>,
}

fn hyperv_interface(
    kvm: &Kvm,
    config: &MachineConfig,
    vm: &Arc<VmFd>,
    memory: &GuestMemoryMmap,
    supported: &[kvm_cpuid_entry2],
    kicks: &Arc<VpKicks>,
    crashes: &Arc<Crashes>,
) -> Result<Option<Arc<dyn HypervInterface>>, PartitionError> {
    if !config.hyperv {
        return Ok(None);
    }
    let trap = TrapInstruction::for_vendor(cpuid::vendor(supported));
    let invariant_tsc = cpuid::has_invariant_tsc(supported);
    let (kick, run_time) = (kicks.clone(), kicks.clone());
    let config = EngineConfig {
        vm: vm.clone(),
        memory: memory.clone(),
        vps: config.vps.get(),
        kick: Arc::new(move |vp| kick.kick(vp)),
        run_time: Box::new(move |vp| run_time.run_time(vp)),
        crashes: crashes.clone(),
        trap,
        invariant_tsc,
        policy: config.policy,
        threshold: config.spin_threshold,
        offered: config.offered,
    };
    let engine = KvmEngine::new(kvm, config)?;
    Ok(Some(Arc::new(engine)))
}

/// The bus of synthetic devices, still without any.
fn vmbus(
    config: &MachineConfig,
    synic: &Arc<Synic>,
    memory: &GuestMemoryMmap,
) -> Result<Arc<VmbusServer>, PartitionError> {
    let newest = config.vmbus_newest.0;
    let options = ServerOptions { vps: config.vps.get(), newest, verbose: config.verbose };
    Ok(VmbusServer::new(synic.clone(), memory.clone(), options)?)
}

/// A machine with interrupt controllers and timers, but neither RAM nor VPs.
fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmFailure> {
    let vm = uninterrupted(|| kvm.create_vm()).map_err(KvmFailure::of("KVM_CREATE_VM"))?;
    vm.set_identity_map_address(KVM_IDENTITY_MAP_ADDRESS)
        .map_err(KvmFailure::of("KVM_SET_IDENTITY_MAP_ADDR"))?;
    vm.set_tss_address(KVM_TSS_ADDRESS as usize).map_err(KvmFailure::of("KVM_SET_TSS_ADDR"))?;
    vm.create_irq_chip().map_err(KvmFailure::of("KVM_CREATE_IRQCHIP"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(KvmFailure::of("KVM_CREATE_PIT2"))?;
    Ok(vm)
}

/// Makes a call of KVM that a signal may interrupt, again until none does. Creating a machine takes all locks of the process's
/// memory, and gives that up for anything that is to be done for the process (Linux, `mm_take_all_locks`): io_uring's notes to its
/// threads count.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, errno::Error>) -> Result<T, errno::Error> {
    loop {
        match call() {
            Err(error) if error.errno() == libc::EINTR => std::thread::yield_now(),
            done => return done,
        }
    }
}

fn devices(
    vm: &VmFd,
    memory: &GuestMemoryMmap,
    output: &Output,
    vps: &Arc<[VpStats]>,
) -> Result<(PortBus, UartInput), PartitionError> {
    use hv_abi::host::{ENL_PORT_BASE, ENL_PORT_COUNT, ISA_DEBUG_EXIT_PORT};

    let no_descriptor = || PartitionError::system("no event descriptor");
    let interrupt = EventFd::new(libc::EFD_NONBLOCK).map_err(no_descriptor())?;
    vm.register_irqfd(&interrupt, COM1_IRQ).map_err(KvmFailure::of("KVM_IRQFD"))?;
    let (uart, input) = uart::new(interrupt, output.clone()).map_err(no_descriptor())?;
    let enl = EnlPorts::new(memory.clone(), output.clone(), vps.clone());

    let mut ports = PortBus::default();
    ports.add(ENL_PORT_BASE, ENL_PORT_COUNT, enl);
    ports.add(COM1_PORT, 8, uart);
    ports.add(ISA_DEBUG_EXIT_PORT, 4, DebugExit);
    ports.add(AcpiPower::FIRST, AcpiPower::COUNT, AcpiPower);
    ports.add(Cmos::FIRST, Cmos::COUNT, Cmos::default());
    ports.add(KeyboardController::PORT, 1, KeyboardController);
    Ok((ports, input))
}

/// The bus of emulated devices, with the ports that come with it.
fn pci_bus(
    ports: &mut PortBus,
    vm: &Arc<VmFd>,
    memory: &GuestMemoryMmap,
    plan: PciPlan,
) -> Result<Arc<PciBus>, PartitionError> {
    let bus = Arc::new(plan.build(memory, &IrqLines::new(line_setter(vm.clone())))?);
    ports.add(ConfigPorts::FIRST, ConfigPorts::COUNT, ConfigPorts::new(bus.clone()));
    ports.add(AcpiPm::FIRST, AcpiPm::COUNT, AcpiPm::new());
    ports.set_pci(bus.clone());
    Ok(bus)
}

/// Sets an interrupt line of the machine to a level.
fn line_setter(vm: Arc<VmFd>) -> impl Fn(u32, bool) + Send + Sync {
    move |line, level| {
        // Fails only for a line that the interrupt controllers have not.
        let _ = vm.set_irq_line(line, level);
    }
}

fn create_vp(
    vm: &VmFd,
    index: u32,
    leaves: &[kvm_cpuid_entry2],
    hyperv: Option<&dyn HypervInterface>,
) -> Result<VcpuFd, KvmFailure> {
    let mut vcpu = vm.create_vcpu(index.into()).map_err(KvmFailure::of("KVM_CREATE_VCPU"))?;
    let leaves = CpuId::from_entries(leaves)
        .map_err(|_| KvmFailure { what: "CPUID leaves", error: errno::Error::new(libc::E2BIG) })?;
    vcpu.set_cpuid2(&leaves).map_err(KvmFailure::of("KVM_SET_CPUID2"))?;
    if let Some(hyperv) = hyperv {
        hyperv.prepare_vp(&vcpu)?;
    }
    hide_kvm(&vcpu);
    set_start_msrs(&vcpu)?;
    set_local_interrupts(&vcpu)?;
    const _: () = assert!(KVM_SYNC_X86_REGS == SyncReg::Register as u32);
    vcpu.set_sync_valid_reg(SyncReg::Register);
    Ok(vcpu)
}

/// Without its CPUID leaves KVM's own interface must not answer either. Kernels before 5.10 can't
/// refuse, which does no harm.
fn hide_kvm(vcpu: &VcpuFd) {
    let mut enforce =
        kvm_enable_cap { cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, ..Default::default() };
    enforce.args[0] = 1;
    let _ = vcpu.enable_cap(&enforce);
}

/// What firmware leaves behind and Linux expects: all memory write-back, and fast string operations.
fn set_start_msrs(vcpu: &VcpuFd) -> Result<(), KvmFailure> {
    const MTRR_DEFAULT_TYPE: u32 = 0x2FF;
    const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
    const MISC_ENABLE: u32 = 0x1A0;
    const MISC_ENABLE_FAST_STRINGS: u64 = 1;
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let entries = [
        entry(MTRR_DEFAULT_TYPE, MTRR_ENABLED_WRITE_BACK),
        entry(MISC_ENABLE, MISC_ENABLE_FAST_STRINGS),
    ];
    let what = "KVM_SET_MSRS";
    let invalid = || KvmFailure { what, error: errno::Error::new(libc::EINVAL) };
    let msrs = Msrs::from_entries(&entries).map_err(|_| invalid())?;
    match vcpu.set_msrs(&msrs).map_err(KvmFailure::of(what))? {
        2 => Ok(()),
        _ => Err(invalid()),
    }
}

/// Wires LINT0 to the PIC and LINT1 to NMI, as firmware does (Intel MultiProcessor Specification 1.4,
/// §3.6.2.2, virtual wire mode).
fn set_local_interrupts(vcpu: &VcpuFd) -> Result<(), KvmFailure> {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const MODE_MASK: u32 = 7 << 8;
    const MASKED: u32 = 1 << 16;
    const MODE_EXTINT: u32 = 7 << 8;
    const MODE_NMI: u32 = 4 << 8;
    let mut lapic = vcpu.get_lapic().map_err(KvmFailure::of("KVM_GET_LAPIC"))?;
    for (register, mode) in [(LVT_LINT0, MODE_EXTINT), (LVT_LINT1, MODE_NMI)] {
        let value = lapic_register(&lapic, register) & !(MODE_MASK | MASKED) | mode;
        for (byte, new) in lapic.regs[register..].iter_mut().zip(value.to_le_bytes()) {
            *byte = new.cast_signed();
        }
    }
    vcpu.set_lapic(&lapic).map_err(KvmFailure::of("KVM_SET_LAPIC"))
}

fn lapic_register(lapic: &kvm_lapic_state, register: usize) -> u32 {
    lapic.regs[register..register + 4]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(byte.cast_unsigned()))
}

fn set_boot_registers(
    vcpu: &VcpuFd,
    memory: &GuestMemoryMmap,
    boot: Boot,
) -> Result<(), PartitionError> {
    let mut sregs = vcpu.get_sregs().map_err(KvmFailure::of("KVM_GET_SREGS"))?;
    let regs = registers::set_up(memory, boot, &mut sregs)?;
    vcpu.set_sregs(&sregs).map_err(KvmFailure::of("KVM_SET_SREGS"))?;
    vcpu.set_regs(&regs).map_err(KvmFailure::of("KVM_SET_REGS"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_interrupted_is_made_again_and_one_that_fails_is_not() {
        let mut answers = vec![Err(libc::EACCES), Ok(7), Err(libc::EINTR), Err(libc::EINTR)];
        let mut call = || answers.pop().expect("no more calls").map_err(errno::Error::new);
        assert_eq!(uninterrupted(&mut call), Ok(7));
        assert_eq!(uninterrupted(&mut call), Err(errno::Error::new(libc::EACCES)));
    }
}
