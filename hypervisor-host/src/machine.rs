//! Runs one machine from a [`MachineConfig`] to a [`Report`].
//!
//! What a person can get wrong is checked first, in this order: values, files, the report's place, KVM.
//! So a mistake is told the same way on a computer without KVM.

mod emulated;
mod services;

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use self::emulated::Emulated;
use self::services::{add_cards, add_components, add_storage, facilities, storage};
use crate::acpi::{self, Described};
use crate::check;
use crate::config::{ByteSize, CpuList, MachineConfig, ModuleFile};
use crate::control::ControlSocket;
use crate::emulated::Output;
use crate::error::HostError;
use crate::host_memory;
use crate::loader::{self, Boot, Module, Payload, Role, Source};
use crate::net::open::Networks;
use crate::outcome::{Ending, Outcome};
use crate::partition::memory::GuestRam;
use crate::partition::vp::allowed_cpus;
use crate::partition::{Partition, Running};
use crate::process::tell;
use crate::report::{MachineReport, MemoryReport, Report};
use crate::signals::Signals;
use crate::supervisor::supervise;
use crate::terminal::RawTerminal;
use crate::vsp::ic::{Components, IcChoice};
use crate::vsp::netvsp;

/// Runs a machine until it ends, with the guest's text on `output` and its input from standard input.
///
/// # Errors
/// The machine can't be built, or its report not be written. Whatever happens to a running machine is
/// an outcome, not an error.
pub fn run(config: &MachineConfig, output: &Output) -> Result<Report, HostError> {
    check_cpus(&config.cpus)?;
    check_memory(config.ram.bytes(), host_memory::total_bytes())?;
    if config.vmbus == Some(true) && !config.can_have_vmbus() {
        return Err(HostError::NoVmbus);
    }
    if config.synthetic_cards().next().is_some() && !config.has_vmbus() {
        return Err(HostError::NoBusForCards);
    }
    if config.ic.is_some_and(|ic| ic != IcChoice::OFF) && !config.has_vmbus() {
        return Err(HostError::NoBusForComponents);
    }
    let (ram, boot) = load(config)?;
    let storage = storage(config)?;
    let number = netvsp::machine_number();
    let mut networks = Networks::default();
    let cards = netvsp::cards(config.synthetic_cards(), &mut networks, number, config.vps)?;
    let mut emulated = Emulated::open(config, &mut networks, number)?;
    let control = config.control.as_deref().map(ControlSocket::bind).transpose()?;
    let report_file =
        config.report.as_deref().map(|path| create_report(config, path)).transpose()?;

    let kvm = check::open(&config.kvm_device)?;
    let offer = check::offer(&kvm, &config.kvm_device);
    offer.require(config.hyperv)?;
    if config.vps.get() as usize > offer.max_vps {
        return Err(HostError::TooManyVps { asked: config.vps.get(), most: offer.max_vps });
    }
    // Before there are threads, which all must leave signals alone.
    let mut signals = Signals::take().map_err(HostError::system("watch for signals"))?;
    let partition = Partition::new(&kvm, config, ram, boot, output, emulated.plan())?;
    emulated.count(&partition);
    let components = add_components(config, &partition)?;
    add_storage(&partition, storage.as_ref())?;
    add_cards(&partition, &cards)?;
    say(config, || describe(config, boot));

    let terminal = RawTerminal::enter(libc::STDIN_FILENO);
    let running = partition.start()?;
    let control = control
        .map(|socket| {
            let machine = machine_report(config, boot);
            let storage = storage.as_ref();
            socket.serve(facilities(
                &machine,
                &running.shared,
                &components,
                storage,
                (&cards, emulated.cards()),
            ))
        })
        .transpose()
        .map_err(HostError::system("answer on the control socket"))?;
    let supervised = supervise(
        &running.shared.ending,
        &running.uart_input,
        &mut signals,
        terminal.as_ref(),
        config.timeout,
        &running.shared.crashes,
    );
    if supervised.is_err() {
        running.shared.ending.set(Outcome::interrupted());
    }
    drop(terminal);
    let mut report = finish(config, running, boot, &components);
    report.disks = storage.as_ref().map(|it| it.controller().report()).unwrap_or_default();
    report.nets = cards.iter().map(|card| card.report()).collect();
    emulated.report(&mut report);
    // What a client still waits for has an end with the machine.
    drop(control);
    if let Some((file, path)) = report_file.zip(config.report.as_deref()) {
        write_report(file, path, &report)?;
    }
    supervised.map_err(HostError::system("wait for the machine"))?;
    Ok(report)
}

/// Puts kernel, initrd and ACPI tables into fresh RAM.
fn load(config: &MachineConfig) -> Result<(GuestRam, Boot), HostError> {
    let image = loader::inspect(Source::open(Role::Kernel, &config.kernel)?)?;
    image.check_protocol(config.boot)?;
    image.check_command_line(&config.cmdline)?;
    let initrd =
        config.initrd.as_deref().map(|path| Source::open(Role::Initrd, path)).transpose()?;
    let modules = config.modules.iter().map(open_module).collect::<Result<Vec<_>, _>>()?;
    let ram = GuestRam::new(config.ram)?;
    let memory = ram.guest();
    let described =
        Described { vps: config.vps.get(), vmbus: config.has_vmbus(), pci: config.has_pci() };
    let rsdp = acpi::write_tables(memory, described)?;
    let payload =
        Payload { initrd: initrd.as_ref(), modules: &modules, command_line: &config.cmdline };
    let boot = loader::load(memory, &image, payload, rsdp, config.boot)?;
    Ok((ram, boot))
}

fn open_module(module: &ModuleFile) -> Result<Module<'static>, HostError> {
    let source = Source::open(Role::Module, &module.path)?;
    Ok(Module { source, text: module.text.clone() })
}

/// Stops the VPs and counts what they did.
fn finish(config: &MachineConfig, running: Running, boot: Boot, components: &Components) -> Report {
    let Running { shared, threads, ram, .. } = running;
    let all_back = threads.stop();
    if !all_back {
        say(config, || "a VP did not stop; its last counts may be missing".into());
    }
    // With the bus, every contact ends.
    let ic = components.report();
    let busy = shared.vmbus.as_ref().map(|vmbus| vmbus.stop()).unwrap_or_default();
    for device in &busy {
        say(config, || format!("the device {device} did not stop"));
    }
    let outcome = outcome(&shared.ending).after_crash(!shared.crashes.told().is_empty());
    let host_ranges: Vec<Range<u64>> = ram.host_ranges().collect();
    let memory = host_memory::measure(&host_ranges, config.ram.bytes())
        .unwrap_or(MemoryReport { ram_bytes: config.ram.bytes(), ..Default::default() });
    let report = Report::new(&shared, &outcome, machine_report(config, boot), memory, ic);
    if !all_back || !busy.is_empty() {
        // A thread that is still at work keeps the machine; so its RAM must stay too.
        std::mem::forget(ram);
    }
    report
}

fn outcome(ending: &Ending) -> Outcome {
    ending.get().cloned().unwrap_or_else(Outcome::interrupted)
}

fn machine_report(config: &MachineConfig, boot: Boot) -> MachineReport {
    MachineReport {
        vps: config.vps.get(),
        ram_bytes: config.ram.bytes(),
        cpus: config.cpus.as_slice().to_vec(),
        policy: config.policy,
        spin_threshold: config.spin_threshold.0,
        hyperv: config.hyperv,
        boot: protocol_name(boot).into(),
    }
}

fn protocol_name(boot: Boot) -> &'static str {
    match boot {
        Boot::Pvh { .. } => "pvh",
        Boot::Linux64 { .. } => "linux64",
        Boot::Multiboot { .. } => "multiboot",
    }
}

fn describe(config: &MachineConfig, boot: Boot) -> String {
    let (protocol, entry) = match boot {
        Boot::Pvh { entry, .. } => ("PVH", u64::from(entry)),
        Boot::Linux64 { entry, .. } => ("the Linux 64-bit protocol", entry),
        Boot::Multiboot { entry, .. } => ("Multiboot", u64::from(entry)),
    };
    let ram = ByteSize(config.ram.bytes());
    format!(
        "{} VPs, {ram} of RAM, {} entered by {protocol} at {entry:#x}",
        config.vps.get(),
        config.kernel.display()
    )
}

fn say(config: &MachineConfig, text: impl FnOnce() -> String) {
    if config.verbose {
        tell(&text());
    }
}

fn check_cpus(cpus: &CpuList) -> Result<(), HostError> {
    if cpus.as_slice().is_empty() {
        return Ok(());
    }
    let allowed = allowed_cpus().map_err(HostError::system("ask for the usable processors"))?;
    match cpus.as_slice().iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(&cpu) => Err(HostError::Cpu { cpu, allowed: list(&allowed) }),
    }
}

/// Numbers as a person writes them: `0-3,8`.
fn list(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

fn check_memory(asked: u64, present: Option<u64>) -> Result<(), HostError> {
    match present {
        Some(present) if asked > present => Err(HostError::MemoryBeyondHost { asked, present }),
        _ => Ok(()),
    }
}

/// Opens the report's file and leaves what is in it, in case the machine can't be built after all.
fn create_report(config: &MachineConfig, path: &Path) -> Result<File, HostError> {
    let open = || -> io::Result<File> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let report = place(file.metadata()?);
        let modules = config.modules.iter().map(|module| &module.path);
        for input in std::iter::once(&config.kernel).chain(&config.initrd).chain(modules) {
            if place(std::fs::metadata(input)?) == report {
                return Err(io::Error::other("it is the machine's kernel, initrd or module"));
            }
        }
        for disk in config.disks.iter().flat_map(|disk| disk.files()) {
            if place(std::fs::metadata(disk)?) == report {
                return Err(io::Error::other("it is a disk of the machine"));
            }
        }
        Ok(file)
    };
    open().map_err(|error| HostError::Report { path: path.into(), error })
}

fn write_report(mut file: File, path: &Path, report: &Report) -> Result<(), HostError> {
    let mut write = || -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(report)?;
        text.push(b'\n');
        // A pipe or a terminal has no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        file.write_all(&text)
    };
    write().map_err(|error| HostError::Report { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_in_ranges() {
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(list(&[3]), "3");
    }

    #[test]
    fn more_memory_than_the_computer_has_is_refused() {
        let error = check_memory(4 << 30, Some((2 << 30) + 4096)).unwrap_err().to_string();
        assert!(error.contains("4 GiB") && error.contains("2 GiB"), "{error}");
        assert!(check_memory(1 << 30, Some(2 << 30)).is_ok());
        assert!(check_memory(1 << 30, None).is_ok());
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused_by_name() {
        let error = check_cpus(&"1023".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("processor 1023"), "{error}");
    }
}
