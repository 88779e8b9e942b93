//! The command line: options, their help, exit codes.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::check::{self, KVM_DEVICE};
use crate::config::{
    CpuList, MachineConfig, ModuleFile, NewestVmbus, Policy, RamSize, SpinThreshold, VpCount,
};
use crate::control;
use crate::control::command::CtlArgs;
use crate::emulated::Output;
use crate::error::{CODE_BAD_INPUT, HostError};
use crate::hyperv::features::Offered;
use crate::loader::BootProtocolChoice;
use crate::machine;
use crate::net::options::NetOptions;
use crate::outcome::Reason;
use crate::process::{NAME, limit_heap_arenas, tell};
use crate::report::Report;
use crate::storage::engine::EngineChoice;
use crate::storage::options::DiskOptions;
use crate::vsp::ic::IcChoice;

/// Runs one virtual machine on KVM, with a Hyper-V interface and counts of all that it costs.
#[derive(Debug, Parser)]
#[command(name = NAME, version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hypervisor-host run --kernel enlighten-kernel --vps 4
  hypervisor-host run --kernel enlighten-kernel --vps 4 --cpus 0-1 --policy directed \\
      --cmdline 'study=spin-enlightened' --report out.json --timeout 60
  hypervisor-host run --kernel vmlinuz --initrd initrd.img --memory 512M \\
      --cmdline 'console=ttyS0 panic=-1'
  hypervisor-host run --kernel vmlinuz --initrd initrd.img --net user,tcp=8080:80 --net tap=tap0
  hypervisor-host run --test-devices --kernel hyperv_synic.flat --vps 2
  hypervisor-host run --kernel enlighten-kernel --vps 4 --hv-disable remote-tlb-flush,cluster-ipi
  hypervisor-host check";

const RUN_HELP: &str = "\
The guest's serial port (COM1) is the terminal; Ctrl-C ends the machine. Text that the guest prints
goes to standard output, whatever the host has to say to standard error.

Exit codes:
  the guest's (8 bits)  the guest ended by itself; 0 for power-off and reset; a test kernel that
                        writes v to port 0xF4 ends with (v << 1) | 1, as on QEMU
  2                     bad input, or a computer that can't run this machine
  124                   --timeout was reached
  125                   the machine died: triple fault, crash, KVM internal error
  130                   Ctrl-C, SIGTERM, SIGHUP or SIGQUIT

Examples:
  hypervisor-host run --kernel enlighten-kernel --vps 4 --memory 256M --cpus 0-1 --report out.json
  hypervisor-host run --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0 panic=-1'";

const CTL_HELP: &str = "\
The machine was started with --control SOCKET.

Exit codes:
  0   done
  1   the machine or its guest says no, or does not answer; for heartbeat: the guest does not answer
  2   bad input, or no machine there

Examples:
  hypervisor-host ctl --control vm.sock heartbeat
  hypervisor-host ctl --control vm.sock shutdown --wait
  hypervisor-host ctl --control vm.sock kvp get OSName --pool auto
  hypervisor-host ctl --control vm.sock disk add data.img,ro";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a machine until it ends
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Tell what the KVM of this computer offers; exit code 0 if it runs guests natively, else 2
    Check(CheckArgs),
    /// Ask a running machine for something by its control socket
    #[command(after_help = CTL_HELP)]
    Ctl(CtlArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Kernel: an ELF file (PVH, Multiboot 1 or Linux 64-bit protocol), a flat Multiboot image or a
    /// Linux bzImage
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk for the kernel
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// A further module for a Multiboot kernel, with words for it after a comma; may be repeated
    #[arg(long = "module", value_name = "FILE[,TEXT]")]
    modules: Vec<OsString>,
    /// Command line for the kernel
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    cmdline: String,
    /// Number of virtual processors, 1 to 64
    #[arg(long, value_name = "N", default_value = "1", allow_hyphen_values = true)]
    vps: VpCount,
    /// Guest RAM, such as 256M or 2G
    #[arg(long, value_name = "SIZE", default_value = "256M", allow_hyphen_values = true)]
    memory: RamSize,
    /// Host processors for the VPs, such as 0-1 or 0,2: each VP is pinned to one of them, in turn.
    /// Without it VPs run wherever the scheduler puts them
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpus: Option<CpuList>,
    /// What the host does when the guest notifies it of a long spin wait
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,
    /// Tries at a lock after which the guest should notify, or never
    #[arg(long, value_name = "N|never", default_value = "4095", allow_hyphen_values = true)]
    spin_threshold: SpinThreshold,
    /// How the kernel is entered
    #[arg(long, value_enum, default_value_t)]
    boot: BootProtocolChoice,
    /// Whether the guest sees a Hyper-V interface
    #[arg(long, value_enum, default_value_t)]
    hyperv: Switch,
    /// Parts of the Hyper-V interface to leave out, such as cluster-ipi,spin-wait; a name that there
    /// is not lists them all
    #[arg(long, value_name = "NAME,…", value_parser = Offered::parse_list)]
    hv_disable: Option<Offered>,
    /// The only parts of the Hyper-V interface to offer, such as hypercall,vp-index (as far as KVM has them)
    #[arg(long, value_name = "NAME,…", value_parser = Offered::parse_list, conflicts_with = "hv_disable")]
    hv_only: Option<Offered>,
    /// Parts to offer that are left out by default: tsc-invariant, and apic-access as a recommendation
    #[arg(long, value_name = "NAME,…", value_parser = Offered::parse_list, conflicts_with = "hv_only")]
    hv_enable: Option<Offered>,
    /// Whether the machine has a VMBus, the bus of synthetic devices. Without the option it has one where the guest is offered a
    /// SynIC with messages and events
    #[arg(long, value_enum)]
    vmbus: Option<Switch>,
    /// The newest version of VMBus that a guest may have
    #[arg(long, value_name = "X.Y", default_value_t, allow_hyphen_values = true)]
    vmbus_version: NewestVmbus,
    /// Write counts of everything to this file, as JSON, whatever way the machine ends
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// End the machine after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Give the machine the devices that kvm-unit-tests and their like use: fw_cfg at port 0x510,
    /// interrupt lines at 0x2000, ports 0xE0 to 0xE3 and memory at 0xFF000000 that keep what is written,
    /// and QEMU's hyperv-testdev at port 0x3000
    #[arg(long)]
    test_devices: bool,
    /// A disk: a raw image or a block device; may be repeated. ro: it can't be written; cow: changes are thrown away; cow=FILE:
    /// changes are kept in FILE; lun: its number, 0 to 63 (the next that is free); ide: on an emulated IDE controller, as primary
    /// master, primary slave, secondary master or secondary slave, 0 to 3 (the first that is free); cdrom: the medium of a CD-ROM
    /// drive there
    #[arg(
        long = "disk",
        value_name = "FILE[,ro][,cow[=FILE]][,lun=N|,ide[=N]]|FILE,cdrom[,ide=N]",
        value_parser = OsStringValueParser::new().try_map(|text| DiskOptions::parse(&text))
    )]
    disks: Vec<DiskOptions>,
    /// How the host reads and writes disks: auto takes io_uring where the kernel has it
    #[arg(long, value_enum, default_value_t)]
    disk_engine: EngineChoice,
    /// A network card, plugged into a TAP device, a user-mode network (passt), a stream of frames or a switch of this
    /// user's machines; may be repeated. Further options: mac=, mtu= (1500), queues= (as many as VPs), model= (netvsc, or tulip for an emulated DEC 21140A), pcap=FILE records its
    /// frames; for user also tcp=HOST:GUEST and udp=HOST:GUEST lead ports of this computer to the guest
    #[arg(long = "net", value_name = "tap=NAME|user|stream=PATH|switch=NAME[,OPTION=…]…")]
    nets: Vec<NetOptions>,
    /// Integration components for the guest: on, off, or some of heartbeat,shutdown,timesync,kvp
    /// [default: on, where there is a VMBus]
    #[arg(long, value_name = "on|off|NAME,…")]
    ic: Option<IcChoice>,
    /// Answer requests on this Unix socket while the machine runs; see hypervisor-host ctl --help
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Say on standard error what the host does
    #[arg(long, short)]
    verbose: bool,
    /// The KVM device
    #[arg(long, value_name = "FILE", default_value = KVM_DEVICE)]
    kvm_device: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Tell it as JSON
    #[arg(long)]
    json: bool,
    /// The KVM device
    #[arg(long, value_name = "FILE", default_value = KVM_DEVICE)]
    kvm_device: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
enum Switch {
    #[default]
    On,
    Off,
}

impl RunArgs {
    fn config(self) -> MachineConfig {
        MachineConfig {
            kernel: self.kernel,
            initrd: self.initrd,
            modules: self.modules.iter().map(|it| ModuleFile::from_option(it)).collect(),
            cmdline: self.cmdline,
            vps: self.vps,
            ram: self.memory,
            cpus: self.cpus.unwrap_or_default(),
            policy: self.policy,
            spin_threshold: self.spin_threshold,
            boot: self.boot,
            hyperv: self.hyperv == Switch::On,
            offered: self.hv_only.unwrap_or_else(|| {
                let more = self.hv_enable.unwrap_or(Offered::NONE);
                let less = self.hv_disable.unwrap_or(Offered::NONE);
                Offered::default().union(more).difference(less)
            }),
            vmbus: self.vmbus.map(|vmbus| vmbus == Switch::On),
            vmbus_newest: self.vmbus_version,
            report: self.report,
            timeout: self.timeout,
            test_devices: self.test_devices,
            disks: self.disks,
            disk_engine: self.disk_engine,
            nets: self.nets,
            ic: self.ic,
            control: self.control,
            verbose: self.verbose,
            kvm_device: self.kvm_device,
        }
    }
}

/// A positive number of seconds, decimals allowed, up to some thirty years.
fn seconds(text: &str) -> Result<Duration, String> {
    const MOST: f64 = 1e9;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text} is no time limit; give a number of seconds above 0")),
    }
}

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    limit_heap_arenas();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    match command {
        Command::Run(args) => run(*args),
        Command::Check(args) => check(&args),
        Command::Ctl(args) => control::command::run(&args),
    }
}

/// Prints help, or what is wrong with the arguments in one sentence.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Standard output that is closed early takes no help.
            let _ = error.print();
            ExitCode::from(error.exit_code() as u8)
        }
        _ => fail(&format_args!("{}; see {NAME} --help", one_sentence(&error.to_string()))),
    }
}

/// The first paragraph of what clap says, without its prefix and line ends.
fn one_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<_> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

fn fail(what: &dyn std::fmt::Display) -> ExitCode {
    tell(what);
    ExitCode::from(CODE_BAD_INPUT)
}

fn run(args: RunArgs) -> ExitCode {
    let config = args.config();
    match machine::run(&config, &Output::stdout()) {
        Ok(report) => {
            tell_ending(&report, config.verbose);
            ExitCode::from(report.exit.code)
        }
        Err(error) => fail(&error),
    }
}

/// Tells on standard error how a machine ended, unless it ended the usual way.
fn tell_ending(report: &Report, verbose: bool) {
    let what = match report.exit.reason {
        Reason::Timeout => "the machine ran out of time (--timeout)",
        Reason::Interrupted => "interrupted",
        Reason::GuestCrash | Reason::TripleFault | Reason::KvmError => "the machine died",
        Reason::GuestExit | Reason::DebugExit | Reason::PowerOff | Reason::Reset if !verbose => {
            return;
        }
        Reason::GuestExit | Reason::DebugExit => "the guest ended by its exit port",
        Reason::PowerOff => "the guest switched off",
        Reason::Reset => "the guest asked for a reset",
    };
    match &report.exit.detail {
        Some(detail) => tell(&format_args!("{what}: {detail}")),
        None => tell(&what),
    }
}

fn check(args: &CheckArgs) -> ExitCode {
    let kvm = match check::open(&args.kvm_device) {
        Ok(kvm) => kvm,
        Err(error) => return fail(&HostError::from(error)),
    };
    let offer = check::offer(&kvm, &args.kvm_device);
    let text = if args.json {
        serde_json::to_string_pretty(&offer).unwrap_or_else(|error| error.to_string())
    } else {
        offer.to_string()
    };
    // Standard output that is closed early takes no answer; the exit code is one too.
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::from(if offer.native { 0 } else { CODE_BAD_INPUT })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<MachineConfig, clap::Error> {
        let all = [NAME, "run"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Run(args) => Ok(args.config()),
            Command::Check(_) | Command::Ctl(_) => panic!("not a run"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_kernel_is_enough() {
        let config = parse(&["--kernel", "k"]).unwrap();
        assert_eq!((config.vps.get(), config.ram.bytes()), (1, 256 << 20));
        assert_eq!((config.policy, config.spin_threshold.0), (Policy::Yield, 4095));
        assert!(config.hyperv && config.cpus.as_slice().is_empty());
    }

    #[test]
    fn all_options_of_the_interface_are_there() {
        let text = "--kernel k --initrd i --cmdline -x --vps 4 --memory 1G --cpus 0-1 --policy directed \
                    --spin-threshold never --boot multiboot --module m,x --test-devices --hyperv off \
                    --report r --timeout 1.5 --verbose";
        let config = parse(&text.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(config.cmdline, "-x");
        assert_eq!(config.cpus.as_slice(), [0, 1]);
        assert_eq!(config.spin_threshold.0, u32::MAX);
        assert_eq!(config.timeout, Some(Duration::from_millis(1500)));
        assert_eq!((config.modules[0].text.as_str(), config.modules.len()), ("x", 1));
        assert!(!config.hyperv && config.verbose && config.test_devices);
    }

    #[test]
    fn disks_are_taken_in_order() {
        let config = parse(&["--kernel", "k"]).unwrap();
        assert_eq!((config.disks.len(), config.disk_engine), (0, EngineChoice::Auto));
        let text = "--kernel k --disk a --disk b,ro,lun=3 --disk c,cow --disk-engine threads";
        let config = parse(&text.split_whitespace().collect::<Vec<_>>()).unwrap();
        let luns: Vec<_> = config.disks.iter().map(|disk| disk.lun).collect();
        assert_eq!((luns, config.disk_engine), (vec![None, Some(3), None], EngineChoice::Threads));
    }

    #[test]
    fn network_cards_are_taken_in_order() {
        let config = parse(&["--kernel", "k", "--net", "user", "--net", "tap=t,mtu=9000"]).unwrap();
        assert_eq!(config.nets.len(), 2);
        assert_eq!((config.nets[0].mtu, config.nets[1].mtu), (1500, 9000));
    }

    #[test]
    fn parts_of_the_interface_are_chosen_by_name() {
        let offered =
            |arguments: &[&str]| parse(&[&["--kernel", "k"], arguments].concat()).unwrap().offered;
        let ipi = Offered::parse_list("cluster-ipi").unwrap();
        assert_eq!(offered(&[]), Offered::default());
        assert_eq!(offered(&["--hv-disable", "cluster-ipi"]), Offered::default().difference(ipi));
        assert_eq!(offered(&["--hv-only", "cluster-ipi"]), ipi);
        assert_eq!(offered(&["--hv-enable", "apic-access,tsc-invariant"]), Offered::ALL);
        assert!(parse(&["--kernel", "k", "--hv-only", "synic", "--hv-disable", "synic"]).is_err());
    }

    #[test]
    fn a_vmbus_is_there_where_the_guest_can_use_it() {
        let config = |arguments: &[&str]| parse(&[&["--kernel", "k"], arguments].concat()).unwrap();
        assert!(config(&[]).has_vmbus() && config(&["--vmbus", "on"]).has_vmbus());
        assert!(!config(&["--vmbus", "off"]).has_vmbus());
        assert!(!config(&["--hyperv", "off"]).has_vmbus());
        assert!(!config(&["--hv-disable", "post-messages"]).has_vmbus());
        assert!(!config(&["--hv-disable", "synic", "--vmbus", "on"]).has_vmbus());
    }

    #[test]
    fn wrong_arguments_give_one_sentence() {
        for (arguments, part) in [
            (&["--kernel", "k", "--vps", "65"][..], "number from 1 to 64"),
            (&["--kernel", "k", "--vps", "-1"], "number from 1 to 64"),
            (&["--kernel", "k", "--timeout", "0"], "number of seconds"),
            (&["--kernel", "k", "--timeout", "inf"], "number of seconds"),
            (&["--kernel", "k", "--frobnicate"], "--frobnicate"),
            (&["--kernel", "k", "--disk", "d,rw"], "give ro, lun=N, cow, cow=FILE"),
            (&["--kernel", "k", "--disk", "d,lun=64"], "N from 0 to 63"),
            (&["--kernel", "k", "--disk", "d,ro,cow"], "only one of ro, cow"),
            (&["--kernel", "k", "--disk", ""], "names no file"),
            (&["--kernel", "k", "--disk-engine", "fast"], "io-uring"),
            (&["--kernel", "k", "--net", "bridge=br0"], "tap=NAME, user"),
            (&["--kernel", "k", "--net", "user,mtu=1"], "number from 576"),
            (&["--kernel", "k", "--hv-disable", "bogus"], "cluster-ipi"),
            (&["--kernel", "k", "--vmbus-version", "7.0"], "6.0, 5.3"),
            (&[], "--kernel"),
            (&["--kernel", "k", "--policy", "sleep"], "park"),
        ] {
            let sentence = one_sentence(&parse(arguments).unwrap_err().to_string());
            assert!(sentence.contains(part), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.starts_with("error"), "{sentence}");
        }
    }
}
