//! What a provider of a synthetic device implements.

use std::error::Error;

use hv_abi::guid::Guid;
use hv_abi::vmbus::offer::{OfferFlags, VMBUS_USER_DEFINED_BYTES};

use super::channel::HostChannel;

/// A synthetic device's host side. One value for each device; its channels, the primary one and sub-channels, are served at
/// the same time, each on a thread of its own.
pub trait VmbusDevice: Send + Sync {
    /// What the guest is offered. Asked for once, when the device is added.
    fn offer(&self) -> DeviceOffer;

    /// Serves one open channel until [`HostChannel::wait`] or another method says that it is closed.
    ///
    /// All that belongs to the channel must be given up when this returns: [`Gpadl`](super::Gpadl)s, and whatever else may
    /// write to the guest's memory. Until then the guest does not get its memory back.
    ///
    /// Returning early leaves the channel open and unserved.
    ///
    /// # Errors
    /// Ends the channel for good: the guest is told that it is gone, the user by the error's text.
    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError>;
}

/// Why a provider gives a channel up.
pub type ServeError = Box<dyn Error + Send + Sync>;

/// What the guest is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOffer {
    /// Names the device in reports and threads; a few letters.
    pub name: String,
    /// What kind of device it is.
    pub interface: Guid,
    /// Which one. No two devices of a bus have the same.
    pub instance: Guid,
    /// Flags of the offer.
    pub flags: OfferFlags,
    /// MiB of address space that the device wants.
    pub mmio_megabytes: u16,
    /// The device's own.
    pub user_defined: [u8; VMBUS_USER_DEFINED_BYTES],
    /// The guest's signals go by the monitor page if the guest has one: cheaper for it, later for the host.
    pub monitored: bool,
}

impl DeviceOffer {
    /// An offer without anything special.
    pub fn new(name: &str, interface: Guid, instance: Guid) -> Self {
        Self {
            name: name.into(),
            interface,
            instance,
            flags: OfferFlags::ENUMERATE_DEVICE_INTERFACE,
            mmio_megabytes: 0,
            user_defined: [0; VMBUS_USER_DEFINED_BYTES],
            monitored: false,
        }
    }
}
