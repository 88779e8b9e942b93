//! From the first Rust line to all processors waiting for work.

#![expect(unsafe_code, reason = "entry point, switch of stacks and page tables")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::Ordering;

use kernel::acpi::{self, Processors};
use kernel::boot::{BootError, BootInfo, Protocol};
use kernel::cmdline::{self, Apic, Console, Options};
use kernel::{MAX_VPS, boot};
use spin::Once;
use x86_64::instructions::port::Port;

use super::console::{self, println};
use super::memory::{self, BootMemory, Extras, Memory};
use super::stacks::{Stack, Stacks, TOTAL_PAGES};
use super::vp::{self, Vp};
use super::{
    apic, clock, cpu, eoi, exit, hyperv, interrupts, logger, segments, smp, synic, timer,
    trampoline,
};

/// What the rest of the kernel may want to know of the boot.
pub(crate) struct Machine {
    /// Boot information.
    pub(crate) info: BootInfo,
    /// The command line, understood.
    pub(crate) options: Options<'static>,
    /// Usable RAM in bytes.
    pub(crate) usable_bytes: u64,
    /// Processors in the MADT; `None` if there was none to read.
    pub(crate) processors: Option<Processors>,
    /// Start-up code of the other processors.
    pub(crate) trampoline: Option<u64>,
}

static INFO: Once<BootInfo> = Once::new();
static MACHINE: Once<Machine> = Once::new();

/// The machine, once it is known.
pub(crate) fn machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Says why nothing can be done, and ends.
fn refuse(what: core::fmt::Arguments<'_>) -> ! {
    println!("{what}");
    exit::exit(exit::BAD_INPUT)
}

/// Called by the entry code on the boot stack: protocol 0 is PVH, 1 Linux's; `info` as the protocol has it.
#[unsafe(no_mangle)]
extern "C" fn enl_boot(protocol: u32, info: u64) -> ! {
    // SAFETY: first thing.
    unsafe { segments::load_early() };
    interrupts::install();
    cpu::detect();
    // SAFETY: the boot page tables are in use until `activate` below.
    let memory = unsafe { BootMemory::new() };
    let info = match protocol {
        0 => boot::pvh::parse(&memory, info),
        _ => boot::linux::parse(&memory, info),
    };
    if let Some(port) = hyperv::exit_port() {
        exit::use_host_port(port);
    }
    let info = info.unwrap_or_else(|error| refuse_boot(protocol, error));
    let info = INFO.call_once(|| info);
    let options = cmdline::parse(info.command_line.as_str());
    let choice = options.as_ref().map_or(Console::Auto, |options| options.console);
    choose_console(choice);
    let options = options.unwrap_or_else(|error| refuse(format_args!("{error}")));
    logger::init(options.log);
    if options.events {
        console::enable_events();
    }
    prepare(&memory, info, options)
}

fn refuse_boot(protocol: u32, error: BootError) -> ! {
    choose_console(Console::Auto);
    let name = if protocol == 0 { Protocol::Pvh.name() } else { Protocol::Linux64.name() };
    refuse(format_args!("cannot use the {name} boot information: {error}; {}", error.advice()))
}

fn choose_console(choice: Console) {
    match (choice, hyperv::console_port()) {
        (Console::Auto | Console::Host, Some(port)) => console::use_host(port),
        (Console::Host, None) => {
            console::use_uart();
            refuse(format_args!(
                "cannot use console=host: this hypervisor does not offer it; use console=auto"
            ))
        }
        _ => console::use_uart(),
    }
}

/// Builds memory, page tables and processor blocks, then goes on with them.
fn prepare(memory: &BootMemory, info: &'static BootInfo, options: Options<'static>) -> ! {
    let processors = find_processors(memory, info);
    let Memory { usable_bytes, trampoline } = memory::init(info).unwrap_or_else(|error| {
        refuse(format_args!(
            "cannot set up memory from the memory map: {error}; give the machine 16 MiB or more"
        ))
    });
    choose_apic(options.apic, processors.as_ref());
    let ids = choose_processors(processors.as_ref(), trampoline, options.vps);
    let stacks = make_processors(&ids);
    let extras = Extras {
        stacks: &stacks,
        trampoline,
        hypercall_page: hyperv::hypercall_page_address(),
        apic: apic::registers(),
    };
    let root = memory::build_map(info, &extras).unwrap_or_else(|error| {
        refuse(format_args!(
            "cannot build page tables for the memory map: {error}; give the machine more memory"
        ))
    });
    if let Some(page) = trampoline {
        // SAFETY: the page is usable RAM that `memory` gives to nobody, executable in the tables at `root`.
        unsafe { trampoline::install(page, root) };
    }
    if processors.is_some_and(|processors| processors.has_8259) {
        silence_8259();
    }
    MACHINE.call_once(|| Machine {
        info: info.clone(),
        options,
        usable_bytes,
        processors,
        trampoline,
    });
    // SAFETY: the tables map everything in use; boot memory is not read any more.
    unsafe { memory::activate(root) };
    let top = stacks[0].range(Stack::Main).end;
    // SAFETY: the stack is mapped and unused; `run` does not return.
    unsafe {
        asm!("mov rsp, {}", "xor ebp, ebp", "call {}", "ud2", in(reg) top, sym run,
            options(noreturn));
    }
}

fn find_processors(memory: &BootMemory, info: &BootInfo) -> Option<Processors> {
    let Some(rsdp) = info.rsdp.or_else(|| acpi::find_rsdp(memory)) else {
        log::info!("no ACPI tables: only the boot processor is used");
        return None;
    };
    match acpi::processors(memory, rsdp) {
        Ok(processors) => Some(processors),
        Err(error) => {
            log::warn!(
                "cannot use the ACPI tables at {rsdp:#x}: {error}; only the boot processor is used"
            );
            None
        }
    }
}

fn choose_apic(choice: Apic, processors: Option<&Processors>) {
    match choice {
        Apic::X2apic if !cpu::has_x2apic() => {
            refuse(format_args!("cannot use apic=x2apic: the processor has none; use apic=auto"))
        }
        Apic::Xapic if apic::is_already_x2apic() => refuse(format_args!(
            "cannot use apic=xapic: the firmware has turned x2APIC mode on; use apic=auto"
        )),
        Apic::Auto | Apic::X2apic if cpu::has_x2apic() => apic::choose(None),
        _ => apic::choose(Some(xapic_address(processors))),
    }
}

/// Where the local APICs' registers lie: the processor knows, the MADT only says.
fn xapic_address(processors: Option<&Processors>) -> u64 {
    let address = apic::address();
    if let Some(said) = processors.map(|found| found.apic_address).filter(|&said| said != address) {
        log::warn!("the MADT has the local APICs at {said:#x}, but they are at {address:#x}");
    }
    address
}

/// APIC identifiers of the processors to run: the boot processor, then the others in the MADT's order.
fn choose_processors(
    processors: Option<&Processors>,
    trampoline: Option<u64>,
    limit: Option<u32>,
) -> Vec<u32> {
    let boot = cpu::initial_apic_id();
    let mut ids = alloc::vec![boot];
    let Some(found) = processors else { return ids };
    let limit = limit.map_or(MAX_VPS, |limit| limit as usize);
    let others = found.enabled.iter().map(|processor| processor.apic_id).filter(|&id| id != boot);
    ids.extend(others.clone().take(limit - 1).filter(|&id| apic::is_x2apic() || id < 0xFF));
    let wanted = others.count().min(limit - 1) + 1;
    if trampoline.is_none() && wanted > 1 {
        log::warn!("no free memory below 640 KiB: only the boot processor is used");
        ids.truncate(1);
    } else if ids.len() < wanted {
        log::warn!("{} processors need x2APIC mode and are not used", wanted - ids.len());
    }
    if found.too_many != 0 {
        log::warn!("{} processors beyond {MAX_VPS} are not used", found.too_many);
    }
    ids
}

/// Makes and publishes a block with stacks for each processor.
fn make_processors(ids: &[u32]) -> Vec<Stacks> {
    let Some(base) = memory::allocate_stacks(ids.len() as u64) else {
        refuse(format_args!(
            "cannot make stacks for {} processors: too little memory; use vps=N or give it more",
            ids.len()
        ))
    };
    let bytes = TOTAL_PAGES * kernel::PAGE_SIZE;
    let stacks: Vec<_> = (0..ids.len() as u64).map(|n| Stacks::new(base + n * bytes)).collect();
    for ((&id, &stacks), index) in ids.iter().zip(&stacks).zip(0..) {
        Box::leak(Box::new(Vp::new(index, id, stacks))).publish();
    }
    stacks
}

/// What each processor does for itself once it runs.
pub(super) fn init_processor() {
    hyperv::learn_index(vp::current());
    eoi::init_processor();
    synic::init_processor();
    timer::init_processor();
}

/// Masks all interrupts of the two 8259s.
fn silence_8259() {
    for port in [0x21, 0xA1] {
        // SAFETY: the mask register of an interrupt controller that nothing uses.
        unsafe { Port::new(port).write(0xFF_u8) };
    }
}

/// Goes on with the kernel's own memory, on processor 0's own stack.
extern "C" fn run() -> ! {
    let (Some(vp), Some(machine)) = (vp::get(0), machine()) else { exit::exit(exit::PANIC) };
    // SAFETY: this is the boot processor, on its main stack.
    unsafe { vp.adopt() };
    interrupts::install();
    apic::enable();
    x86_64::instructions::interrupts::enable();
    vp.online.store(true, Ordering::Release);
    clock::init(hyperv::interface());
    hyperv::init();
    init_processor();
    if let Some(page) = machine.trampoline {
        smp::start_others(page);
    }
    crate::run::main(machine)
}
