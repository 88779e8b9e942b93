//! What the bus knows: devices, channels, the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hv_abi::vmbus::message::{InitiateContact, OpenChannel2};
use hv_abi::vmbus::monitor::MONITOR_IDS;
use hv_abi::vmbus::version::VmbusVersion;
use hv_abi::vmbus::{VMBUS_INTERRUPT_PAGE_CHANNELS, VMBUS_MAX_CHANNEL_ID};

use super::DeviceId;
use super::error::Malformed;
use super::gpadls::Incomplete;
use super::monitor::Monitor;
use super::page_signals::PageSignals;
use crate::hyperv::synic::Sint;
use crate::vmbus::channel::link::Link;
use crate::vmbus::device::{DeviceOffer, VmbusDevice};
use crate::vmbus::gpadl::Gpadl;

/// Everything that one lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) devices: BTreeMap<DeviceId, Device>,
    pub(super) channels: BTreeMap<u32, Channel>,
    pub(super) connection: Connection,
    /// Where messages to the guest go; there is a route.
    pub(super) target: Option<Sint>,
    /// Counts targets.
    pub(super) target_serial: u64,
    /// GPADLs that somebody still uses.
    pub(super) live_gpadls: BTreeMap<u64, LiveGpadl>,
    /// Pages of GPADLs, incomplete ones among them.
    pub(super) gpadl_pages: usize,
    pub(super) stopped: bool,
    next_device: u32,
    next_serial: u64,
}

/// A GPADL that somebody still uses.
pub(super) struct LiveGpadl {
    pub(super) pages: usize,
    /// Its number, if the guest waits for its end.
    pub(super) awaited: Option<u32>,
}

/// A device on the bus.
pub(super) struct Device {
    pub(super) device: Arc<dyn VmbusDevice>,
    pub(super) offer: DeviceOffer,
}

/// The guest's connection.
#[derive(Default)]
pub(super) enum Connection {
    #[default]
    None,
    Open(Box<Info>),
    /// Providers and memory of the last one are still in use.
    Closing(Next),
}

/// What comes when a connection is closed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// The guest is told, if its version has a message for that.
    UnloadResponse(VmbusVersion),
    /// Another connection.
    Contact(Contact),
}

/// A guest's request for a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contact {
    pub(super) request: InitiateContact,
    /// Connection that it came by.
    pub(super) message_connection: u32,
    /// A client's number is behind it.
    pub(super) has_client: bool,
}

/// An open connection.
pub(super) struct Info {
    pub(super) version: VmbusVersion,
    pub(super) features: u32,
    /// Where messages come and channels before version 2.4 signal.
    pub(super) target: Sint,
    /// Before version 2.4.
    pub(super) page_signals: Option<Arc<PageSignals>>,
    pub(super) monitor: Option<Arc<Monitor>>,
    pub(super) offers_sent: bool,
    /// GPADLs of which messages are still to come, by number.
    pub(super) incomplete: BTreeMap<u32, Incomplete>,
}

/// A channel that the guest knows of.
pub(super) struct Channel {
    pub(super) device: DeviceId,
    pub(super) sub_channel_index: u16,
    /// Of a sub-channel: its primary channel.
    pub(super) primary: Option<u32>,
    pub(super) monitor: Option<u8>,
    pub(super) gpadls: BTreeMap<u32, (u64, Arc<Gpadl>)>,
    pub(super) phase: Phase,
    /// The guest was told that it is gone.
    pub(super) rescinded: bool,
    /// The guest knows of it no more: it goes when its provider has returned.
    pub(super) released: bool,
}

/// How open a channel is.
#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Closed,
    Open(Opening),
    /// The provider has not returned yet. The guest may want it open again meanwhile.
    Closing(u64, Option<Box<OpenChannel2>>),
}

/// What an open channel has.
pub(super) struct Opening {
    pub(super) serial: u64,
    pub(super) link: Arc<Link>,
    /// Route for signals to the guest.
    pub(super) route: Option<Sint>,
    /// Connection for the guest's signals.
    pub(super) connection: Option<u32>,
    /// Flag of signals to the guest.
    pub(super) flag: u16,
    pub(super) ring_pages: BTreeSet<u64>,
    /// The provider has returned already.
    pub(super) served: bool,
}

impl State {
    pub(super) fn new_device(&mut self) -> DeviceId {
        self.next_device += 1;
        DeviceId(self.next_device)
    }

    /// A number that nothing else has.
    pub(super) fn new_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    /// The lowest channel number that is free.
    pub(super) fn free_channel(&self) -> Option<u32> {
        let most = match self.open().is_ok_and(|info| info.version < VmbusVersion::V2_4) {
            true => VMBUS_INTERRUPT_PAGE_CHANNELS - 1,
            false => VMBUS_MAX_CHANNEL_ID,
        };
        // They are in order: the first gap.
        let used = self.channels.keys().zip(1..).take_while(|&(&id, expected)| id == expected);
        let id = used.count() as u32 + 1;
        (id <= most).then_some(id)
    }

    /// A monitor id that is free.
    pub(super) fn free_monitor(&self) -> Option<u8> {
        let used: BTreeSet<u8> = self.channels.values().filter_map(|it| it.monitor).collect();
        (0..MONITOR_IDS as u8).find(|id| !used.contains(id))
    }

    pub(super) fn open(&self) -> Result<&Info, Malformed> {
        match &self.connection {
            Connection::Open(info) => Ok(info),
            _ => Err(Malformed::NotConnected),
        }
    }

    pub(super) fn open_mut(&mut self) -> Result<&mut Info, Malformed> {
        match &mut self.connection {
            Connection::Open(info) => Ok(info),
            _ => Err(Malformed::NotConnected),
        }
    }

    pub(super) fn version(&self) -> Option<VmbusVersion> {
        self.open().ok().map(|info| info.version)
    }

    /// A channel that the guest may speak of.
    pub(super) fn channel(&mut self, id: u32) -> Result<&mut Channel, Malformed> {
        let channel = self.channels.get_mut(&id).filter(|channel| !channel.released);
        channel.ok_or(Malformed::NoSuchChannel)
    }

    /// Sub-channels of a channel that were not rescinded yet.
    pub(super) fn sub_channels(&self, primary: u32) -> Vec<u32> {
        let theirs = |channel: &Channel| channel.primary == Some(primary) && !channel.rescinded;
        self.channels.iter().filter(|(_, channel)| theirs(channel)).map(|(&id, _)| id).collect()
    }
}
