//! What a machine is made of, checked before anything is opened or created.
//!
//! [`MachineConfig`] is the library's way in; the command line fills one. The parsers for sizes and
//! processor lists live here because their limits do.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hv_abi::cpuid::{HV_SPIN_WAIT_NEVER_NOTIFY, Privileges};
use hv_abi::vmbus::version::VmbusVersion;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hyperv::features::Offered;
use crate::layout::{MAX_RAM_BYTES, MAX_VPS, MIN_RAM_BYTES};
use crate::loader::BootProtocolChoice;
use crate::net::options::NetOptions;
use crate::storage::engine::EngineChoice;
use crate::storage::options::DiskOptions;
use crate::vsp::ic::IcChoice;

mod sizes;

pub use sizes::{ByteSize, RamSize, parse_bytes};

/// The threshold that Hyper-V itself and QEMU's documentation use for `hv-spinlocks`.
pub const DEFAULT_SPIN_THRESHOLD: u32 = 0xFFF;
/// Guest RAM if none is asked for.
pub const DEFAULT_RAM_BYTES: u64 = 256 << 20;
/// Processors that a list may name (the size of the kernel's default affinity mask).
const MAX_HOST_CPU: usize = 1023;

/// A machine to run.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// The kernel image: PVH, Linux or Multiboot ELF, a flat Multiboot image, or a bzImage.
    pub kernel: PathBuf,
    /// An initial RAM disk for the kernel; the first module of a Multiboot kernel.
    pub initrd: Option<PathBuf>,
    /// Further modules of a Multiboot kernel.
    pub modules: Vec<ModuleFile>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Number of virtual processors.
    pub vps: VpCount,
    /// Guest RAM.
    pub ram: RamSize,
    /// Host processors; VP *i* runs on the *(i mod n)*-th of them. Empty: wherever the scheduler likes.
    pub cpus: CpuList,
    /// What a long spin wait leads to.
    pub policy: Policy,
    /// How long a guest should spin before it notifies.
    pub spin_threshold: SpinThreshold,
    /// How the kernel is entered.
    pub boot: BootProtocolChoice,
    /// Whether the guest sees a Hyper-V interface at all.
    pub hyperv: bool,
    /// The parts of that interface that the guest is offered, as far as KVM has them.
    pub offered: Offered,
    /// Whether the machine has a VMBus. `None`: where the guest is offered what that takes.
    pub vmbus: Option<bool>,
    /// The newest version of VMBus that a guest may have.
    pub vmbus_newest: NewestVmbus,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// The machine is ended after this long.
    pub timeout: Option<Duration>,
    /// Whether the machine has the devices of test kernels ([`crate::emulated::testdev`]).
    pub test_devices: bool,
    /// Disks.
    pub disks: Vec<DiskOptions>,
    /// How disk I/O is done.
    pub disk_engine: EngineChoice,
    /// Network cards, in the order in which they are numbered.
    pub nets: Vec<NetOptions>,
    /// The integration components that the guest is offered, where it has a VMBus.
    pub ic: Option<IcChoice>,
    /// Where the machine answers requests.
    pub control: Option<PathBuf>,
    /// Say on standard error what the host does.
    pub verbose: bool,
    /// The KVM device.
    pub kvm_device: PathBuf,
}

impl MachineConfig {
    /// Whether the guest is offered what VMBus takes: hypercalls, and messages and events by its SynIC.
    pub fn can_have_vmbus(&self) -> bool {
        let needed = Privileges::HYPERCALL
            .union(Privileges::SYNIC)
            .union(Privileges::POST_MESSAGES)
            .union(Privileges::SIGNAL_EVENTS);
        self.hyperv && self.offered.privileges.contains(needed)
    }

    /// Whether the machine has PCI: only for emulated devices.
    pub fn has_pci(&self) -> bool {
        self.ide_disks().next().is_some() || self.emulated_cards().next().is_some()
    }

    /// Disks of the synthetic controller.
    pub fn synthetic_disks(&self) -> impl Iterator<Item = &DiskOptions> {
        self.disks.iter().filter(|disk| disk.ide.is_none())
    }

    /// Disks of the IDE controller.
    pub fn ide_disks(&self) -> impl Iterator<Item = &DiskOptions> {
        self.disks.iter().filter(|disk| disk.ide.is_some())
    }

    /// Cards on VMBus, with the numbers that all cards share.
    pub fn synthetic_cards(&self) -> impl Iterator<Item = (u16, &NetOptions)> {
        (0..).zip(&self.nets).filter(|(_, card)| !card.is_emulated())
    }

    /// Cards on PCI, with the numbers that all cards share.
    pub fn emulated_cards(&self) -> impl Iterator<Item = (u16, &NetOptions)> {
        (0..).zip(&self.nets).filter(|(_, card)| card.is_emulated())
    }

    /// Whether the machine has a VMBus.
    pub fn has_vmbus(&self) -> bool {
        self.vmbus.unwrap_or(true) && self.can_have_vmbus()
    }
}

/// A version of VMBus, as a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestVmbus(pub VmbusVersion);

impl Default for NewestVmbus {
    fn default() -> Self {
        Self(VmbusVersion::ALL[0])
    }
}

impl fmt::Display for NewestVmbus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NewestVmbus {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let known = VmbusVersion::ALL.into_iter().find(|version| version.to_string() == text);
        known.map(Self).ok_or_else(|| ConfigError::VmbusVersion(text.into()))
    }
}

/// Versions as a person reads them, newest first.
fn vmbus_versions() -> String {
    VmbusVersion::ALL.map(|version| version.to_string()).join(", ")
}

/// A file for a Multiboot kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFile {
    /// The file.
    pub path: PathBuf,
    /// Words for the kernel, which go after the path in the module's string.
    pub text: String,
}

impl ModuleFile {
    /// Takes `FILE` or `FILE,TEXT` apart; a comma in the file's name can't be told.
    pub fn from_option(option: &OsStr) -> Self {
        let bytes = option.as_bytes();
        let comma = bytes.iter().position(|&byte| byte == b',').unwrap_or(bytes.len());
        let (path, text) = bytes.split_at(comma);
        let text = String::from_utf8_lossy(text.strip_prefix(b",").unwrap_or_default());
        Self { path: OsStr::from_bytes(path).into(), text: text.into_owned() }
    }
}

/// What the host does when a guest notifies it of a long spin wait.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Count it and let the VP go on spinning.
    None,
    /// Give the rest of the VP thread's time slice to another thread.
    #[default]
    Yield,
    /// Let KVM pick a preempted VP of this machine and run that one instead.
    Directed,
    /// Put the VP to sleep until another VP of this machine has run, a millisecond at most.
    Park,
}

/// A number of virtual processors, 1 to [`MAX_VPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VpCount(u32);

impl VpCount {
    /// Checks a number.
    pub fn new(count: u32) -> Result<Self, ConfigError> {
        if (1..=MAX_VPS).contains(&count) {
            Ok(Self(count))
        } else {
            Err(ConfigError::VpCount(count.to_string()))
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for VpCount {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let count = text.parse().map_err(|_| ConfigError::VpCount(text.into()))?;
        Self::new(count)
    }
}

/// How many tries at a lock a guest should make before it notifies (CPUID `0x40000004` EBX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpinThreshold(pub u32);

impl Default for SpinThreshold {
    fn default() -> Self {
        Self(DEFAULT_SPIN_THRESHOLD)
    }
}

impl FromStr for SpinThreshold {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text == "never" {
            return Ok(Self(HV_SPIN_WAIT_NEVER_NOTIFY));
        }
        match text.parse() {
            Ok(count) if count != 0 && count != HV_SPIN_WAIT_NEVER_NOTIFY => Ok(Self(count)),
            _ => Err(ConfigError::SpinThreshold(text.into())),
        }
    }
}

/// Host processors by number, as in `0-1,3`; the order given is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The processors.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// The processor for a VP, if the list names any.
    pub fn for_vp(&self, vp: u32) -> Option<usize> {
        match self.0.len() {
            0 => None,
            count => self.0.get(vp as usize % count).copied(),
        }
    }

    fn push_range(&mut self, part: &str) -> Option<()> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MAX_HOST_CPU {
            return None;
        }
        for cpu in first..=last {
            if self.0.contains(&cpu) {
                return None;
            }
            self.0.push(cpu);
        }
        Some(())
    }
}

impl FromStr for CpuList {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut list = Self::default();
        for part in text.split(',') {
            list.push_range(part).ok_or_else(|| ConfigError::CpuSyntax(text.into()))?;
        }
        Ok(list)
    }
}

/// A value that no machine can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not a number from 1 to 64.
    #[error("{0} is no number of virtual processors; give a number from 1 to {MAX_VPS}")]
    VpCount(String),
    /// Not a size.
    #[error("{0:?} is no amount of memory; give a number with K, M or G, such as 256M")]
    RamSyntax(String),
    /// Too small to hold anything.
    #[error("{0} of memory is too little for a machine; give at least {least}", least = ByteSize(MIN_RAM_BYTES))]
    RamTooSmall(String),
    /// Beyond every limit.
    #[error("{0} of memory is too much for a machine; give at most {most}", most = ByteSize(MAX_RAM_BYTES))]
    RamTooLarge(String),
    /// Not whole pages.
    #[error("{0} of memory is not a whole number of pages; give a multiple of 4 KiB")]
    RamNotPages(String),
    /// Not a list of processors.
    #[error("{0:?} is no list of processors; name each once, such as 0-1 or 0,2")]
    CpuSyntax(String),
    /// Not a version of VMBus.
    #[error("{0:?} is no version of VMBus; give one of {known}", known = vmbus_versions())]
    VmbusVersion(String),
    /// Not a threshold.
    #[error("{0:?} is no spin threshold; give a number from 1 to 4294967294, or never")]
    SpinThreshold(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(text: &str) -> Result<u64, ConfigError> {
        text.parse::<RamSize>().map(RamSize::bytes)
    }

    #[test]
    fn a_modules_text_follows_the_first_comma() {
        let module = |option: &str| {
            let module = ModuleFile::from_option(option.as_ref());
            (module.path.to_str().unwrap().to_owned(), module.text)
        };
        assert_eq!(module("a/b.bin"), ("a/b.bin".into(), String::new()));
        assert_eq!(module("env,x=1 y,z"), ("env".into(), "x=1 y,z".into()));
        assert_eq!(module(",x"), (String::new(), "x".into()));
    }

    #[test]
    fn vp_counts_stop_at_64() {
        assert_eq!("1".parse::<VpCount>().unwrap().get(), 1);
        assert_eq!("64".parse::<VpCount>().unwrap().get(), 64);
        for text in ["0", "65", "-1", "four", "", "4294967296"] {
            assert!(text.parse::<VpCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_lists_keep_their_order_and_wrap_around() {
        let list: CpuList = "3,0-1".parse().unwrap();
        assert_eq!(list.as_slice(), [3, 0, 1]);
        assert_eq!(list.for_vp(0), Some(3));
        assert_eq!(list.for_vp(4), Some(0));
        assert_eq!(CpuList::default().for_vp(0), None);
    }

    #[test]
    fn malformed_cpu_lists_are_refused() {
        for text in ["", ",", "1-", "-1", "2-1", "0,0", "0-2,1", "a", "0-99999999999", "1024"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_threshold_is_a_number_or_never() {
        assert_eq!("4095".parse(), Ok(SpinThreshold(4095)));
        assert_eq!("never".parse(), Ok(SpinThreshold(u32::MAX)));
        for text in ["0", "4294967295", "4294967296", "often", ""] {
            assert!(text.parse::<SpinThreshold>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_of_vmbus_are_those_that_there_are() {
        assert_eq!("5.3".parse(), Ok(NewestVmbus(VmbusVersion::V5_3)));
        assert_eq!("0.13".parse(), Ok(NewestVmbus(VmbusVersion::V0_13)));
        assert_eq!(NewestVmbus::default().to_string(), "6.0");
        for text in ["", "5", "5.4", "5.3.1", "05.3", "v5.3", "-1", "327683", "99999999999.0"] {
            assert!(text.parse::<NewestVmbus>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        let errors = [
            "0".parse::<VpCount>().unwrap_err(),
            ram("1E").unwrap_err(),
            ram("1K").unwrap_err(),
            ram("x").unwrap_err(),
            ram("4194305").unwrap_err(),
            "x".parse::<CpuList>().unwrap_err(),
            "x".parse::<SpinThreshold>().unwrap_err(),
            "5".parse::<NewestVmbus>().unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("; give ") || text.contains("; name "), "{text}");
        }
    }
}
