//! Boot information, whichever protocol brought it.
//!
//! [`pvh`] and [`linux`] read what the virtual machine monitor left in memory and copy it into one
//! [`BootInfo`]; nothing is looked at again afterwards.

pub mod linux;
pub mod pvh;

use core::fmt;

use crate::fixed::Text;
use crate::memory_map::MemoryMap;
use crate::phys::{OutOfReach, PhysMemory};

/// Longest command line in bytes, as Linux on x86.
pub const MAX_COMMAND_LINE_BYTES: usize = 2048;

/// How the kernel was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Xen's PVH entry, 32-bit, `hvm_start_info` in EBX.
    Pvh,
    /// Linux's 64-bit entry, `boot_params` in RSI.
    Linux64,
}

impl Protocol {
    /// Its name in the `boot` event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pvh => "pvh",
            Self::Linux64 => "linux64",
        }
    }
}

/// What the virtual machine monitor told the kernel.
#[derive(Debug, Clone)]
pub struct BootInfo {
    /// How the kernel was started.
    pub protocol: Protocol,
    /// Command line.
    pub command_line: Text<MAX_COMMAND_LINE_BYTES>,
    /// Memory map.
    pub memory: MemoryMap,
    /// Address of the ACPI root pointer, if the protocol named one.
    pub rsdp: Option<u64>,
}

/// Why boot information can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootError {
    /// A structure lies where nothing can be read.
    OutOfReach,
    /// The structure does not begin with the protocol's magic number.
    BadMagic(u32),
    /// The structure is older than the first version with a memory map.
    OldVersion(u32),
    /// The memory map has no or too many entries.
    MemoryMapEntries(u32),
    /// The command line has no end within [`MAX_COMMAND_LINE_BYTES`].
    CommandLineTooLong,
    /// The command line is not UTF-8.
    CommandLineEncoding,
}

impl BootError {
    /// What a person can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::CommandLineTooLong => "give a shorter one",
            Self::CommandLineEncoding => "give one in UTF-8",
            _ => "start the kernel with a loader that follows the protocol",
        }
    }
}

impl From<OutOfReach> for BootError {
    fn from(_: OutOfReach) -> Self {
        Self::OutOfReach
    }
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => f.write_str("it points beyond readable memory"),
            Self::BadMagic(found) => write!(f, "its magic number is {found:#010x}"),
            Self::OldVersion(found) => write!(f, "its version {found} has no memory map"),
            Self::MemoryMapEntries(found) => write!(f, "its memory map has {found} entries"),
            Self::CommandLineTooLong => {
                write!(f, "the command line is longer than {MAX_COMMAND_LINE_BYTES} bytes")
            }
            Self::CommandLineEncoding => f.write_str("the command line is not UTF-8"),
        }
    }
}

/// Copies the zero-terminated command line at `address`.
fn read_command_line(
    memory: &impl PhysMemory,
    address: u64,
) -> Result<Text<MAX_COMMAND_LINE_BYTES>, BootError> {
    let mut bytes = [0; MAX_COMMAND_LINE_BYTES];
    let mut length = 0;
    loop {
        let at = address.checked_add(length as u64).ok_or(BootError::OutOfReach)?;
        match memory.bytes::<1>(at)? {
            [0] => break,
            [byte] => *bytes.get_mut(length).ok_or(BootError::CommandLineTooLong)? = byte,
        }
        length += 1;
    }
    let text =
        core::str::from_utf8(&bytes[..length]).map_err(|_| BootError::CommandLineEncoding)?;
    let mut line = Text::new();
    fmt::Write::write_str(&mut line, text).map_err(|_| BootError::CommandLineTooLong)?;
    Ok(line)
}
