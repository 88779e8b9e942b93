//! Finding the hypervisor and what it offers, from CPUID alone.
//!
//! The Hyper-V leaves are always at `0x4000_0000`: a hypervisor with an interface of its own beside it
//! (KVM, Xen) moves its own to `0x4000_0100`. What counts is the interface signature `Hv#1`, not the
//! vendor's, which any hypervisor fills as it likes (Linux asks for both, QEMU lets users change the latter).

use core::fmt;

use hv_abi::cpuid::{
    Features, HV_CPUID_ENLIGHTENMENT_INFO, HV_CPUID_FEATURES, HV_CPUID_IMPLEMENTATION_LIMITS,
    HV_CPUID_INTERFACE, HV_CPUID_MAX, HV_CPUID_MIN, HV_CPUID_VENDOR_AND_MAX_FUNCTIONS,
    HV_CPUID_VERSION, HV_INTERFACE_SIGNATURE, HYPERVISOR_PRESENT_ECX_BIT, Privileges,
    Recommendations,
};
use hv_abi::host::{
    ENL_CPUID_BASE, ENL_CPUID_FEATURES, ENL_PORT_COUNT, ENL_SIGNATURE, HostFeatures,
};

use crate::cpu::{Cpu, CpuidResult};
use crate::spin_wait::SpinThreshold;

/// A hypervisor's twelve-character vendor signature.
///
/// Displayed without trailing zero bytes; a byte that is not plain text becomes `?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VendorSignature(pub [u8; 12]);

impl VendorSignature {
    fn from_leaf(leaf: CpuidResult) -> Self {
        let mut bytes = [0; 12];
        let words = [leaf.ebx, leaf.ecx, leaf.edx];
        for (target, word) in bytes.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        Self(bytes)
    }
}

impl fmt::Display for VendorSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let used = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for &byte in self.0.iter().take(used) {
            let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            f.write_char(if plain { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for VendorSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Why there is no Hyper-V interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No hypervisor says that it is there.
    NoHypervisor,
    /// A hypervisor with another interface.
    OtherInterface {
        /// Who it says it is.
        vendor: VendorSignature,
    },
    /// A hypervisor with the right signature whose leaves end too early, or nowhere, to be believed.
    BadLeaves {
        /// Who it says it is.
        vendor: VendorSignature,
        /// The largest leaf it claims.
        max_leaf: u32,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHypervisor => f.write_str("no hypervisor"),
            Self::OtherInterface { vendor } => write!(f, "hypervisor \"{vendor}\" without Hv#1"),
            Self::BadLeaves { vendor, max_leaf } => {
                write!(f, "hypervisor \"{vendor}\" with CPUID leaves up to {max_leaf:#x}")
            }
        }
    }
}

impl core::error::Error for Absence {}

/// The most that a hypervisor supports; zero if it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Virtual processors in a partition.
    pub virtual_processors: u32,
    /// Logical processors.
    pub logical_processors: u32,
    /// Physical interrupt vectors for remapping.
    pub interrupt_vectors: u32,
}

/// Build and version of a hypervisor; all zero if it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Build number.
    pub build: u32,
}

/// A hypervisor with the Hyper-V interface, and what it offers this partition.
///
/// Everything is read once, by [`HyperV::detect`]. That a value exists proves that the interface is there;
/// each register and call beyond the guest's identity needs its privilege besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HyperV {
    vendor: VendorSignature,
    max_leaf: u32,
    version: Version,
    privileges: Privileges,
    features: Features,
    recommendations: Recommendations,
    spin_threshold: SpinThreshold,
    limits: Limits,
}

impl HyperV {
    /// Looks for the interface.
    pub fn detect<C: Cpu>(cpu: &C) -> Result<Self, Absence> {
        let vendor_leaf = vendor_leaf(cpu).ok_or(Absence::NoHypervisor)?;
        let vendor = VendorSignature::from_leaf(vendor_leaf);
        let max_leaf = vendor_leaf.eax;
        if max_leaf < HV_CPUID_INTERFACE
            || cpu.cpuid(HV_CPUID_INTERFACE).eax != HV_INTERFACE_SIGNATURE
        {
            return Err(Absence::OtherInterface { vendor });
        }
        if !(HV_CPUID_MIN..=HV_CPUID_MAX).contains(&max_leaf) {
            return Err(Absence::BadLeaves { vendor, max_leaf });
        }
        Ok(Self::read(cpu, vendor, max_leaf))
    }

    fn read<C: Cpu>(cpu: &C, vendor: VendorSignature, max_leaf: u32) -> Self {
        let version = cpu.cpuid(HV_CPUID_VERSION);
        let features = cpu.cpuid(HV_CPUID_FEATURES);
        let info = cpu.cpuid(HV_CPUID_ENLIGHTENMENT_INFO);
        let limits = cpu.cpuid(HV_CPUID_IMPLEMENTATION_LIMITS);
        let privileges = u64::from(features.ebx) << 32 | u64::from(features.eax);
        Self {
            vendor,
            max_leaf,
            version: Version {
                major: (version.ebx >> 16) as u16,
                minor: version.ebx as u16,
                build: version.eax,
            },
            privileges: Privileges::from_bits_retain(privileges),
            features: Features::from_bits_retain(features.edx),
            recommendations: Recommendations::from_bits_retain(info.eax),
            spin_threshold: SpinThreshold::from_cpuid(info.ebx),
            limits: Limits {
                virtual_processors: limits.eax,
                logical_processors: limits.ebx,
                interrupt_vectors: limits.ecx,
            },
        }
    }

    /// Who the hypervisor says it is.
    pub fn vendor(&self) -> VendorSignature {
        self.vendor
    }

    /// The largest leaf of the interface.
    pub fn max_leaf(&self) -> u32 {
        self.max_leaf
    }

    /// Build and version. A hypervisor may hide them until the guest has announced its identity.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What this partition may use. Bits without a name are kept.
    pub fn privileges(&self) -> Privileges {
        self.privileges
    }

    /// What the hypervisor can do. Bits without a name are kept.
    pub fn features(&self) -> Features {
        self.features
    }

    /// What the hypervisor would have the guest do. Bits without a name are kept.
    pub fn recommendations(&self) -> Recommendations {
        self.recommendations
    }

    /// How long a spin wait is to be before the hypervisor wants to know of it.
    pub fn spin_threshold(&self) -> SpinThreshold {
        self.spin_threshold
    }

    /// The most that the hypervisor supports.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// Who the hypervisor says it is, whatever its interface; `None` without one.
pub fn hypervisor_vendor<C: Cpu>(cpu: &C) -> Option<VendorSignature> {
    vendor_leaf(cpu).map(VendorSignature::from_leaf)
}

fn vendor_leaf<C: Cpu>(cpu: &C) -> Option<CpuidResult> {
    // Without this bit, leaves from 0x4000_0000 on return the data of some other leaf.
    let present = cpu.cpuid(1).ecx >> HYPERVISOR_PRESENT_ECX_BIT & 1 == 1;
    present.then(|| cpu.cpuid(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS))
}

/// Enlighten's own host, and what it adds beside the Hyper-V interface ([`hv_abi::host`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnlightenHost {
    features: HostFeatures,
    port_base: u16,
}

impl EnlightenHost {
    /// Looks for our own host; `None` on every other hypervisor.
    pub fn detect<C: Cpu>(cpu: &C) -> Option<Self> {
        vendor_leaf(cpu)?;
        let base = cpu.cpuid(ENL_CPUID_BASE);
        if VendorSignature::from_leaf(base).0 != ENL_SIGNATURE || base.eax < ENL_CPUID_FEATURES {
            return None;
        }
        let leaf = cpu.cpuid(ENL_CPUID_FEATURES);
        let port_base = u16::try_from(leaf.ebx).ok()?;
        port_base.checked_add(ENL_PORT_COUNT - 1)?;
        Some(Self { features: HostFeatures::from_bits_truncate(leaf.eax), port_base })
    }

    /// What the host offers; bits without a name are dropped.
    pub fn features(self) -> HostFeatures {
        self.features
    }

    /// The I/O port at `offset`, one of the `ENL_PORT_…` offsets, if the host offers `feature`.
    pub fn port(self, feature: HostFeatures, offset: u16) -> Option<u16> {
        let offered = self.features.contains(feature) && offset < ENL_PORT_COUNT;
        offered.then(|| self.port_base.checked_add(offset)).flatten()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
