//! What the kernel does once everything is up: the job that the command line names.

use hv_abi::host::Mark;
use hv_enlightenments::detect::hypervisor_vendor;
use kernel::cmdline::Job;
use kernel::fixed::Text;

use crate::machine::boot::Machine;
use crate::machine::cpu::CPU;
use crate::machine::{apic, console, exit, hyperv, idle, ipi, memory, shootdown, vp};
use crate::{bus, conformance, drives, echo, guest_tests, io_bench, scaling, serve, soak, study};

/// Does the job and ends.
pub(crate) fn main(machine: &'static Machine) -> ! {
    hyperv::mark(Mark::BOOTED);
    announce(machine);
    let code = match machine.options.job {
        Job::List => guest_tests::list(),
        Job::Panic => panic!("as asked for on the command line, with {} VPs", vp::online().count()),
        Job::Tests(names) => guest_tests::run(names),
        Job::Conformance(cases) => conformance::run(&cases, machine.options.case_limit),
        Job::Vmbus => bus::run(machine.options.vmbus_version),
        Job::Ide(pio_sectors) => drives::run(pio_sectors),
        Job::Serve => serve::run(machine.options.vmbus_version, &machine.options.serve),
        Job::Tulip(server) => echo::run(server, &machine.options.serve),
        Job::Study(locks) => study::run(locks, &machine.options.study),
        Job::IoBench(bench) => io_bench::run(bench, machine.options.vmbus_version),
        Job::Soak(seconds) => soak::run(seconds, machine.options.vmbus_version),
        Job::Scaling(amount) => scaling::run(amount),
    };
    exit::exit(code)
}

fn announce(machine: &Machine) {
    let vps = vp::online().count();
    let mode = if apic::is_x2apic() { "x2apic" } else { "xapic" };
    log::info!(
        "{vps} VPs ({mode}), {} MiB, started by {}",
        machine.usable_bytes >> 20,
        machine.info.protocol.name()
    );
    let found = hyperv::detect();
    match &found.hyperv {
        Ok(hv) => log::info!("Hyper-V interface by \"{}\": {:?}", hv.vendor(), hv.privileges()),
        Err(absence) => log::info!("no Hyper-V interface: {absence}"),
    }
    log::info!(
        "TLB flushes by {}, interrupts by {}, idle by {}",
        shootdown::method(),
        ipi::method(),
        idle::method()
    );
    let mut vendor = Text::<12>::new();
    let name = hypervisor_vendor(&CPU);
    let written = name.map(|name| core::fmt::Write::write_fmt(&mut vendor, format_args!("{name}")));
    let vendor = if written.is_some() { vendor.as_str() } else { "none" };
    console::event("boot", |event| {
        let interface = if found.hyperv.is_ok() { "Hv#1" } else { "" };
        event
            .number("vps", vps as u64)
            .str("hypervisor", vendor)
            .str("interface", interface)
            .str("protocol", machine.info.protocol.name())
            .number("memory_bytes", machine.usable_bytes)
            .number("kernel_bytes", memory::image().len())
            .str("apic", mode)
            .str("tlb", shootdown::method())
            .str("ipi", ipi::method())
            .str("idle", idle::method())
            .end()
    });
}
