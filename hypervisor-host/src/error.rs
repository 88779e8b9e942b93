//! Why no machine could be run, in words for a person: what failed, on what, what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::acpi::AcpiError;
use crate::check::CheckError;
use crate::config::{ByteSize, ConfigError};
use crate::control::SocketError;
use crate::loader::LoadError;
use crate::net::open::NetError;
use crate::partition::PartitionError;
use crate::partition::memory::MemoryError;
use crate::storage::engine::EngineError;
use crate::storage::open::UnusableDisk;
use crate::vmbus::AddError;

/// Exit code of the process for all of these.
pub const CODE_BAD_INPUT: u8 = 2;

/// A machine could not be run, or its report not be written.
#[derive(Debug, Error)]
pub enum HostError {
    /// A value that no machine can have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// More RAM than this computer has.
    #[error(
        "{} of memory is more than this computer's {}; give less by --memory",
        ByteSize(*.asked), ByteSize(.present >> 20 << 20)
    )]
    MemoryBeyondHost {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that the computer has.
        present: u64,
    },
    /// The kernel, the initrd or the command line.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// A processor that this process may not use.
    #[error(
        "cannot run a VP on processor {cpu}: this process may use {allowed}; name some of those by --cpus"
    )]
    Cpu {
        /// The processor.
        cpu: usize,
        /// Those that may be used.
        allowed: String,
    },
    /// More VPs than KVM runs.
    #[error("cannot run {asked} VPs: this KVM runs at most {most}; give less by --vps")]
    TooManyVps {
        /// VPs asked for.
        asked: u32,
        /// The most that KVM runs.
        most: usize,
    },
    /// KVM is not there, or not enough.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// VMBus is asked for, and not what it takes.
    #[error(
        "a guest without hypercalls, SynIC, messages and events has no VMBus; offer them (--hyperv, --hv-disable, --hv-only), or give --vmbus off"
    )]
    NoVmbus,
    /// Network cards are asked for, and there is no VMBus for them.
    #[error(
        "network cards (--net) are on VMBus, and this machine has none; offer it (--vmbus, --hyperv, --hv-disable, --hv-only), or leave them out or give model=tulip"
    )]
    NoBusForCards,
    /// Integration components are asked for, and there is no VMBus for them.
    #[error(
        "integration components (--ic) are on VMBus, and this machine has none; offer it (--vmbus, --hyperv, --hv-disable, --hv-only), or leave --ic out"
    )]
    NoBusForComponents,
    /// What a network card is plugged into.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The machine.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A synthetic device.
    #[error("cannot offer a synthetic device: {0}; give fewer devices")]
    Device(#[from] AddError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// Disks without a bus to have them on.
    #[error(
        "cannot give the machine disks: it has no VMBus; leave out --disk, give it ide, or leave out what switches VMBus off"
    )]
    NoBusForDisks,
    /// A disk.
    #[error(transparent)]
    Disk(#[from] UnusableDisk),
    /// The way disks are read and written.
    #[error(transparent)]
    DiskEngine(#[from] EngineError),
    /// The report can't be written.
    #[error("cannot write the report {path}: {error}; give another place by --report", path = .path.display())]
    Report {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something that hardly ever fails.
    #[error("cannot {what}: {error}; look at the limits of this process")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl HostError {
    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}
