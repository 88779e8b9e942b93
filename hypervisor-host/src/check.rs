//! What the KVM of this computer offers, and whether it can run a guest natively.

use std::arch::x86_64::__cpuid;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kvm_bindings as kvm;
use kvm_ioctls::Kvm;
use serde::Serialize;
use thiserror::Error;

/// The usual device.
pub const KVM_DEVICE: &str = "/dev/kvm";
/// The version of the interface that has not changed since 2007.
const API_VERSION: i32 = 12;

/// A capability that this host uses.
struct Needed {
    name: &'static str,
    number: u32,
    use_: Use,
}

/// What a capability is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// No machine runs without.
    Always,
    /// No machine with a Hyper-V interface runs without.
    Hyperv,
    /// Better with it.
    Optional,
}

macro_rules! needed {
    ($($use_:ident: $($name:ident)*;)*) => {
        &[$($(Needed { name: stringify!($name), number: kvm::$name, use_: Use::$use_ },)*)*]
    };
}

const NEEDED: &[Needed] = needed! {
    Always: KVM_CAP_USER_MEMORY KVM_CAP_IRQCHIP KVM_CAP_PIT2 KVM_CAP_IRQFD KVM_CAP_SET_TSS_ADDR
        KVM_CAP_SET_IDENTITY_MAP_ADDR KVM_CAP_EXT_CPUID KVM_CAP_MP_STATE KVM_CAP_SYNC_REGS
        KVM_CAP_IMMEDIATE_EXIT;
    Hyperv: KVM_CAP_HYPERV KVM_CAP_HYPERV_SYNIC2 KVM_CAP_HYPERV_VP_INDEX KVM_CAP_HYPERV_TLBFLUSH
        KVM_CAP_HYPERV_SEND_IPI KVM_CAP_HYPERV_ENFORCE_CPUID KVM_CAP_SYS_HYPERV_CPUID
        KVM_CAP_X86_USER_SPACE_MSR KVM_CAP_X86_MSR_FILTER KVM_CAP_IRQ_ROUTING
        KVM_CAP_IRQFD_RESAMPLE;
    Optional: KVM_CAP_HYPERV_EVENTFD KVM_CAP_TSC_DEADLINE_TIMER KVM_CAP_BINARY_STATS_FD
        KVM_CAP_ENFORCE_PV_FEATURE_CPUID KVM_CAP_SPLIT_IRQCHIP;
};

/// What a KVM offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The device.
    pub device: PathBuf,
    /// Whether it runs guests natively, Hyper-V interface included.
    pub native: bool,
    /// Version of KVM's interface, 12.
    pub api_version: i32,
    /// `vmx` or `svm`, if the processor shows one.
    pub hardware: Option<&'static str>,
    /// Most VPs of a machine.
    pub max_vps: usize,
    /// Capabilities that this host uses.
    pub capabilities: Vec<Capability>,
    /// What stands in the way of a guest with a Hyper-V interface.
    pub obstacles: Vec<String>,
}

/// A capability and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Its name in `linux/kvm.h`.
    pub name: &'static str,
    /// What it is for.
    #[serde(rename = "use")]
    pub use_: Use,
    /// 0 if it is missing.
    pub value: i32,
}

/// Why this computer can't run a machine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    /// The device can't be opened.
    #[error("cannot open {path}: {error}; {advice}", path = .device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// Why.
        error: String,
        /// What to do.
        advice: &'static str,
    },
    /// The device is no KVM.
    #[error("cannot use {}: it is not a KVM device; give another by --kvm-device", .0.display())]
    NotKvm(PathBuf),
    /// The KVM lacks something.
    #[error("cannot run a guest on {path}: {obstacles}; {advice}", path = .device.display())]
    Unusable {
        /// The device.
        device: PathBuf,
        /// What stands in the way.
        obstacles: String,
        /// What to do.
        advice: &'static str,
    },
}

/// Opens a KVM device.
///
/// # Errors
/// It can't be opened, or is something else.
pub fn open(device: &Path) -> Result<Kvm, CheckError> {
    let open_error = |errno: i32| CheckError::Open {
        device: device.into(),
        error: std::io::Error::from_raw_os_error(errno).to_string(),
        advice: match errno {
            libc::EACCES | libc::EPERM => "join the group that owns it (often kvm)",
            libc::ENOENT => {
                "load the module kvm-intel or kvm-amd, or enable virtualization in the firmware"
            }
            libc::ENODEV | libc::ENXIO => "enable virtualization in the firmware",
            _ => "check that it is a KVM device",
        },
    };
    let path = CString::new(device.as_os_str().as_bytes()).map_err(|_| open_error(libc::EINVAL))?;
    let kvm = Kvm::new_with_path(path).map_err(|error| open_error(error.errno()))?;
    if kvm.get_api_version() == API_VERSION {
        Ok(kvm)
    } else {
        Err(CheckError::NotKvm(device.into()))
    }
}

/// Asks a KVM for everything that matters to this host.
pub fn offer(kvm: &Kvm, device: &Path) -> Offer {
    let capabilities: Vec<_> = NEEDED
        .iter()
        .map(|&Needed { name, number, use_ }| {
            let value = kvm.check_extension_raw(number.into());
            Capability { name, use_, value: value.max(0) }
        })
        .collect();
    let hardware = hardware();
    let obstacles = obstacles(&capabilities, hardware, true);
    Offer {
        device: device.into(),
        native: obstacles.is_empty(),
        api_version: kvm.get_api_version(),
        hardware,
        max_vps: kvm.get_max_vcpus(),
        capabilities,
        obstacles,
    }
}

impl Offer {
    /// Checks that a machine can run here, with or without a Hyper-V interface.
    ///
    /// # Errors
    /// What stands in the way, in one sentence.
    pub fn require(&self, hyperv: bool) -> Result<(), CheckError> {
        let obstacles = obstacles(&self.capabilities, self.hardware, hyperv);
        if obstacles.is_empty() {
            return Ok(());
        }
        let advice = match self.hardware {
            None => {
                "use a computer with VT-x or AMD-V, or a virtual machine in which they are enabled"
            }
            Some(_) => "use Linux 5.18 or newer with CONFIG_KVM_HYPERV",
        };
        let obstacles = obstacles.join(", and ");
        Err(CheckError::Unusable { device: self.device.clone(), obstacles, advice })
    }
}

fn obstacles(capabilities: &[Capability], hardware: Option<&str>, hyperv: bool) -> Vec<String> {
    let mut obstacles = Vec::new();
    if hardware.is_none() {
        obstacles.push(
            "the processor shows neither VMX nor SVM, so this KVM runs guests in software".into(),
        );
    }
    let missing: Vec<_> = capabilities
        .iter()
        .filter(|it| it.value == 0)
        .filter(|it| it.use_ == Use::Always || hyperv && it.use_ == Use::Hyperv)
        .map(|it| it.name)
        .collect();
    if !missing.is_empty() {
        obstacles.push(format!("it lacks {}", missing.join(", ")));
    }
    obstacles
}

/// The processor's own virtualization, if it shows any.
fn hardware() -> Option<&'static str> {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    if __cpuid(1).ecx & VMX != 0 {
        return Some("vmx");
    }
    let extended = __cpuid(0x8000_0000).eax >= 0x8000_0001;
    (extended && __cpuid(0x8000_0001).ecx & SVM != 0).then_some("svm")
}

impl std::fmt::Display for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: KVM interface {}", self.device.display(), self.api_version)?;
        writeln!(f, "  {:<34} {}", "hardware virtualization", self.hardware.unwrap_or("none"))?;
        writeln!(f, "  {:<34} {}", "most VPs of a machine", self.max_vps)?;
        for capability in &self.capabilities {
            let note = match (capability.value, capability.use_) {
                (0, Use::Optional) => "missing (optional)".to_owned(),
                (0, _) => "MISSING".to_owned(),
                (value, _) => value.to_string(),
            };
            writeln!(f, "  {:<34} {note}", capability.name)?;
        }
        match self.require(true) {
            Ok(()) => write!(f, "This computer runs guests natively."),
            Err(error) => write!(f, "This computer does not run guests natively: {error}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(missing: &[&str], hardware: Option<&'static str>) -> Offer {
        let value = |name| i32::from(!missing.contains(&name));
        let capabilities: Vec<_> = NEEDED
            .iter()
            .map(|it| Capability { name: it.name, use_: it.use_, value: value(it.name) })
            .collect();
        let obstacles = obstacles(&capabilities, hardware, true);
        Offer {
            device: KVM_DEVICE.into(),
            native: obstacles.is_empty(),
            api_version: API_VERSION,
            hardware,
            max_vps: 1024,
            capabilities,
            obstacles,
        }
    }

    #[test]
    fn a_complete_kvm_runs_everything() {
        assert_eq!(offer(&[], Some("svm")).require(true), Ok(()));
        assert_eq!(offer(&["KVM_CAP_BINARY_STATS_FD"], Some("vmx")).require(true), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = offer(&["KVM_CAP_HYPERV_SYNIC2"], Some("vmx")).require(true).unwrap_err();
        assert!(text.to_string().contains("it lacks KVM_CAP_HYPERV_SYNIC2"), "{text}");
    }

    #[test]
    fn without_a_hyperv_interface_its_capabilities_do_not_matter() {
        assert_eq!(offer(&["KVM_CAP_HYPERV_SYNIC2"], Some("svm")).require(false), Ok(()));
        assert!(offer(&["KVM_CAP_IRQCHIP"], Some("svm")).require(false).is_err());
    }

    #[test]
    fn a_software_kvm_is_told_apart() {
        let offer = offer(&["KVM_CAP_HYPERV_SYNIC2"], None);
        assert!(!offer.native);
        let text = offer.require(true).unwrap_err().to_string();
        assert!(text.contains("neither VMX nor SVM"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn what_is_no_device_is_said_so() {
        let missing = open(Path::new("/nonexistent/kvm")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/kvm"), "{missing}");
        assert_eq!(
            open(Path::new("/dev/null")).err(),
            Some(CheckError::NotKvm("/dev/null".into()))
        );
    }
}
