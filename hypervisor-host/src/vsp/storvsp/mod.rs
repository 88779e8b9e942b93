//! Storage: a SCSI controller on VMBus, as Hyper-V has it.
//!
//! [`StorvspDevice`] is the device. Each of its channels has a queue of disk I/O of its own and is served by `server`, which
//! receives, submits, and answers in whatever order things are done. The primary channel first goes through the protocol's
//! beginning (`session`); sub-channels take requests only. What a request means and what becomes of it is in `srb`; packets as
//! bytes are in `packet`.
//!
//! Which disks there are is the [`Controller`]'s business. When they change, the guest is told by `ENUMERATE_BUS` and by unit
//! attentions.
//!
//! *A hostile guest.* A request that makes no sense gets an answer that says so. What can't be answered, such as a packet
//! that is no packet of this protocol, ends the channel with a [`StorvspError`].

mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod packet;
mod server;
mod session;
mod srb;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hv_abi::guid::Guid;
use hv_abi::storvsp::{SCSI_GUID, StorvspVersion};

pub use self::error::StorvspError;
use self::server::Server;
use crate::storage::controller::Controller;
use crate::storage::engine::Engines;
use crate::vmbus::{ChannelError, DeviceOffer, HostChannel, ServeError, VmbusDevice};

/// The first controller of a machine; each further one has another first number.
pub const CONTROLLER_INSTANCE: Guid = Guid::new(0, 0x1E74, 0x4E4C, 0xA5D1_5C51_0000_0001);
/// Sub-channels that a guest may have, at most.
const MAX_SUB_CHANNELS: u16 = 16;

/// What a controller is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorvspOptions {
    /// The newest version that is spoken, as by an older host.
    pub newest: StorvspVersion,
    /// Sub-channels that are offered, at most.
    pub sub_channels: u16,
}

impl StorvspOptions {
    /// For a machine with so many VPs: a channel for each.
    pub fn new(vps: u32) -> Self {
        let sub_channels = vps.saturating_sub(1).min(MAX_SUB_CHANNELS.into()) as u16;
        Self { newest: StorvspVersion::V6_2, sub_channels }
    }
}

/// A SCSI controller with its disks.
pub struct StorvspDevice {
    controller: Arc<Controller>,
    engines: Engines,
    options: StorvspOptions,
    /// What the primary channel agreed on; 0 while it has not.
    version: AtomicU16,
}

impl StorvspDevice {
    /// A controller for these disks.
    pub fn new(controller: Arc<Controller>, engines: Engines, options: StorvspOptions) -> Self {
        Self { controller, engines, options, version: AtomicU16::new(0) }
    }

    /// Which disks there are.
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    fn version(&self) -> Option<StorvspVersion> {
        let version = StorvspVersion(self.version.load(Ordering::Acquire));
        version.is_known().then_some(version)
    }

    fn set_version(&self, version: Option<StorvspVersion>) {
        self.version.store(version.map_or(0, |version| version.0), Ordering::Release);
    }
}

impl VmbusDevice for StorvspDevice {
    fn offer(&self) -> DeviceOffer {
        DeviceOffer::new("scsi", SCSI_GUID, CONTROLLER_INSTANCE)
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        let primary = channel.sub_channel_index() == 0;
        let served = Server::new(self, channel).and_then(|mut server| server.run(channel));
        if primary {
            self.set_version(None);
        }
        match served {
            Ok(()) | Err(StorvspError::Channel(ChannelError::Closed)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
