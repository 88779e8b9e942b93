//! The virtual machine monitors a guest is tried on, and the command line of each.

use std::fmt;

use crate::guest_tests::Ending;

/// Where the monitors and the guest's files lie, on this machine or in the lab.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Our host's program.
    pub host: String,
    /// The foreign monitor: a program and the arguments it always needs.
    pub qemu: Vec<String>,
}

/// What boots.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Path of the kernel image.
    pub kernel: String,
    /// Path of the initial RAM disk.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub cmdline: String,
    /// Virtual processors.
    pub vps: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// A way to run a guest.
#[derive(Debug, Clone)]
pub enum Vmm {
    /// `hypervisor-host` on KVM, with more of its options.
    OurHost {
        /// Options beyond the guest's own, such as `--policy yield`.
        options: Vec<String>,
    },
    /// QEMU.
    Qemu {
        /// Value of `-machine`.
        machine: &'static str,
        /// Value of `-cpu`.
        cpu: &'static str,
        /// Value of `-accel`.
        accel: &'static str,
    },
}

/// The Hyper-V interface of QEMU and KVM, all of it that concerns processors (QEMU's `docs/system/i386/hyperv.rst`).
pub const QEMU_HYPERV_CPU: &str = "host,kvm=off,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-synic,\
    hv-stimer,hv-runtime,hv-reset,hv-frequencies,hv-tlbflush,hv-ipi,hv-spinlocks=0xfff";

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OurHost { options } if options.is_empty() => write!(f, "our host"),
            Self::OurHost { options } => write!(f, "our host {}", options.join(" ")),
            Self::Qemu { machine, accel, .. } => {
                let machine = machine.split(',').next().unwrap_or(machine);
                write!(f, "QEMU {accel} {machine}")
            }
        }
    }
}

impl Vmm {
    /// The program and arguments that run `guest`.
    pub fn argv(&self, paths: &Paths, guest: &Guest) -> Vec<String> {
        match self {
            Self::OurHost { options } => our_host(paths, guest, options),
            Self::Qemu { machine, cpu, accel } => qemu(paths, guest, machine, cpu, accel),
        }
    }

    /// How the machine ended, from the monitor's exit code.
    pub fn ending(&self, code: i32) -> Ending {
        let guest = |code: u8| Ending {
            code: Some(code),
            text: format!("the guest ended with code {code}{}", guest_code_meaning(code)),
        };
        let vmm = |text: String| Ending { code: None, text };
        match (self, code) {
            (Self::OurHost { .. }, 124) => vmm("the host's time limit was reached".into()),
            (Self::OurHost { .. }, 125) => vmm("the virtual machine died".into()),
            (Self::OurHost { .. }, 0..=4) => guest(code.to_le_bytes()[0]),
            // isa-debug-exit turns v into (v << 1) | 1.
            (Self::Qemu { .. }, code) if code & 1 == 1 && code < 10 => {
                guest((code >> 1).to_le_bytes()[0])
            }
            (_, code) => vmm(format!("{self} ended with code {code}")),
        }
    }
}

/// `1 VP`, `2 VPs`.
pub fn counted_vps(vps: u32) -> String {
    format!("{vps} VP{}", if vps == 1 { "" } else { "s" })
}

fn guest_code_meaning(code: u8) -> &'static str {
    match code {
        1 => " (a test failed)",
        2 => " (bad command line)",
        3 => " (panic)",
        4 => " (fatal exception)",
        _ => "",
    }
}

fn our_host(paths: &Paths, guest: &Guest, options: &[String]) -> Vec<String> {
    let (vps, memory) = (guest.vps.to_string(), format!("{}M", guest.memory_mib));
    let words = ["run", "--kernel", &guest.kernel, "--vps", &vps, "--memory", &memory];
    let mut argv = strings(&[&paths.host]);
    argv.extend(strings(&words));
    argv.extend(strings(&["--cmdline", &guest.cmdline]));
    if let Some(initrd) = &guest.initrd {
        argv.extend(strings(&["--initrd", initrd]));
    }
    argv.extend_from_slice(options);
    argv
}

fn qemu(paths: &Paths, guest: &Guest, machine: &str, cpu: &str, accel: &str) -> Vec<String> {
    let (vps, memory) = (guest.vps.to_string(), guest.memory_mib.to_string());
    let mut argv = paths.qemu.clone();
    argv.extend(strings(&["-machine", machine, "-cpu", cpu, "-accel", accel]));
    argv.extend(strings(&["-smp", &vps, "-m", &memory, "-display", "none", "-nodefaults"]));
    argv.extend(strings(&["-serial", "stdio", "-no-reboot"]));
    argv.extend(strings(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]));
    argv.extend(strings(&["-kernel", &guest.kernel, "-append", &guest.cmdline]));
    if let Some(initrd) = &guest.initrd {
        argv.extend(strings(&["-initrd", initrd]));
    }
    argv
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PC: Vmm = Vmm::Qemu { machine: "pc", cpu: "max", accel: "tcg" };

    #[test]
    fn isa_debug_exit_codes_become_the_guests() {
        assert_eq!(PC.ending(1).code, Some(0));
        assert_eq!(PC.ending(3).code, Some(1));
        assert_eq!(PC.ending(9).code, Some(4));
    }

    #[test]
    fn a_monitors_own_end_is_never_the_guests_success() {
        assert_eq!(PC.ending(0).code, None, "QEMU ends with 0 when the guest shuts down or resets");
        assert_eq!(PC.ending(2).code, None);
        let host = Vmm::OurHost { options: vec![] };
        for code in [124, 125, 130, -1] {
            assert_eq!(host.ending(code).code, None, "{code}");
        }
        assert_eq!(host.ending(0).code, Some(0));
    }

    #[test]
    fn a_command_line_with_spaces_stays_one_argument() {
        let paths = Paths { host: "/bin/host".into(), qemu: vec!["qemu".into()] };
        let guest = Guest {
            kernel: "/k".into(),
            initrd: None,
            cmdline: "events test=all".into(),
            vps: 2,
            memory_mib: 64,
        };
        let host = Vmm::OurHost { options: vec![] };
        for vmm in [PC, host] {
            let argv = vmm.argv(&paths, &guest);
            assert!(argv.contains(&"events test=all".to_string()), "{argv:?}");
        }
    }
}
