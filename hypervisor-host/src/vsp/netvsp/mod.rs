//! The network card's host side: NVSP and RNDIS, between a guest's netvsc and a [back end](crate::net).
//!
//! *From the guest.* Each channel's thread (`worker`) takes packets from its ring. RNDIS messages in the send buffer or in
//! guest memory are copied, looked at (`rndis`) and sent (`transmit`), on whatever channel they come; control messages
//! (`control`) and NVSP's own (`negotiate`) only on the primary channel.
//!
//! *To the guest.* The primary channel's thread reads the network (`deliver`). It puts each frame into a part of the
//! receive buffer (`receive_buffer`), chooses a channel (`rss`), and tells that channel's thread by its inbox (`session`).
//! Each thread sends what it was told of, many frames in one transfer-page packet, and takes the parts back when the guest
//! completes it (`transactions`).
//!
//! What was agreed on is in `settings`.

mod cards;
mod control;
mod deliver;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod message;
mod negotiate;
mod offloads;
mod primary;
mod receive_buffer;
mod rndis;
mod rss;
mod send_buffer;
mod session;
mod settings;
#[cfg(test)]
mod test_memory;
#[cfg(test)]
mod tests;
mod transactions;
mod transmit;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::guid::Guid;
use hv_abi::nvsp::{NVSP_INTERFACE, NVSP_MAX_CHANNELS, NvspVersion};
use hv_abi::vmbus::offer::OfferFlags;

use self::control::Card;
use self::negotiate::{Bus, Lent, Limits};
use self::primary::Primary;
use self::session::Session;
use self::settings::Settings;
use self::worker::{End, Worker};
use crate::net::backend::Backend;
use crate::net::counters::{Counters, Counts};
use crate::net::mac::MacAddress;
use crate::net::options::DEFAULT_MTU;
use crate::stats::gauges::Counted;
use crate::stats::lock;
use crate::vmbus::{DeviceOffer, HostChannel, ServeError, VmbusDevice};

pub use self::cards::{NetReport, cards, machine_number};
pub use self::error::NetVspError;

/// What a card is made of.
#[derive(Debug, Clone, Copy)]
pub struct NetVspOptions {
    /// Number of the card in its machine.
    pub index: u16,
    /// Its address.
    pub address: MacAddress,
    /// Longest frame without its Ethernet header, in bytes.
    pub mtu: u16,
    /// Channels that the guest may have, 1 to [`NVSP_MAX_CHANNELS`].
    pub queues: u16,
    /// Newest version of NVSP.
    pub newest: NvspVersion,
}

impl NetVspOptions {
    /// The machine's card of this number, with one channel.
    pub fn new(index: u16) -> Self {
        Self {
            index,
            address: MacAddress::of_card(index),
            mtu: DEFAULT_MTU,
            queues: 1,
            newest: NvspVersion::V6_1,
        }
    }
}

/// A network card.
pub struct NetVsp {
    index: u16,
    address: MacAddress,
    mtu: u16,
    queues: u16,
    newest: NvspVersion,
    backend: Box<dyn Backend>,
    counters: Counters,
    /// The cable is plugged in, as far as the user says.
    up: AtomicBool,
    /// From the primary channel's opening to its closing.
    session: Mutex<Option<Arc<Session>>>,
}

impl NetVsp {
    /// A card that is plugged into a network.
    pub fn new(options: NetVspOptions, backend: Box<dyn Backend>) -> Self {
        let NetVspOptions { index, address, mtu, queues, newest } = options;
        let queues = queues.clamp(1, NVSP_MAX_CHANNELS as u16);
        Self {
            index,
            address,
            mtu,
            queues,
            newest,
            backend,
            counters: Counters::default(),
            up: AtomicBool::new(true),
            session: Mutex::new(None),
        }
    }

    /// Plugs the cable in or out; the guest is told.
    pub fn set_link(&self, up: bool) {
        self.up.store(up, Ordering::Release);
        if let Some(session) = &*lock(&self.session) {
            session.wake_all();
        }
    }

    /// Whether the cable is plugged in and somebody at its other end.
    pub fn is_link_up(&self) -> bool {
        self.is_admin_up() && self.backend.link_up()
    }

    fn is_admin_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Its name in its machine: `net0` and so on.
    pub fn name(&self) -> String {
        format!("net{}", self.index)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// The card's address.
    pub fn address(&self) -> MacAddress {
        self.address
    }

    /// What the card is plugged into, for a person.
    pub fn network(&self) -> String {
        self.backend.describe()
    }

    fn limits(&self) -> Limits {
        Limits { newest: self.newest, mtu: self.mtu, queues: self.queues }
    }

    fn serve_primary(&self, channel: &mut HostChannel) -> End {
        let session = Arc::new(Session::new(self.first_settings(), self.queues));
        *lock(&self.session) = Some(Arc::clone(&session));
        let primary = Primary::new(self.queues);
        let end = Worker::new(self, Arc::clone(&session), channel, Some(primary)).run(channel);
        *lock(&self.session) = None;
        // Sub-channels give the guest's buffers up too.
        session.shared.set(Arc::new(self.first_settings()));
        session.wake_all();
        end
    }

    fn first_settings(&self) -> Settings {
        Settings::new(self.address, self.mtu)
    }

    fn serve_sub_channel(&self, channel: &mut HostChannel) -> End {
        let session = lock(&self.session).clone();
        let Some(session) = session else { return NetVspError::NoPrimary.into() };
        Worker::new(self, session, channel, None).run(channel)
    }
}

impl Counted for NetVsp {
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts();
        // The program copies each frame once: out of the guest's memory, or into its receive buffer.
        vec![
            ("tx_frames", counts.tx_frames),
            ("rx_frames", counts.rx_frames),
            ("rx_no_buffer", counts.rx_no_buffer),
            ("copied_bytes", counts.tx_bytes + counts.rx_bytes),
        ]
    }
}

impl VmbusDevice for NetVsp {
    fn offer(&self) -> DeviceOffer {
        // Cards of a machine differ in the last group; the rest was drawn once.
        let instance =
            Guid::new(0x7A08_9391, 0x0C52, 0x4DB1, 0xA6F1_0000_0000_0000 | u64::from(self.index));
        let mut offer = DeviceOffer::new(&self.name(), NVSP_INTERFACE, instance);
        offer.flags |= OfferFlags::SERVER_SUPPORTS_TRANSFER_PAGES;
        offer.flags |= OfferFlags::SERVER_SUPPORTS_GPADLS;
        offer
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        let end = match channel.sub_channel_index() {
            0 => self.serve_primary(channel),
            _ => self.serve_sub_channel(channel),
        };
        match end {
            End::Closed => Ok(()),
            End::Error(error) => Err(error),
        }
    }
}

impl Bus for HostChannel {
    fn lent(&self, gpadl: u32) -> Option<Lent> {
        let gpadl = self.gpadl(gpadl).ok()?;
        let ranges = gpadl.range()?.clone();
        Some((ranges, Some(gpadl)))
    }

    fn offer_sub_channels(&mut self, count: u16) -> u16 {
        // A channel that closes is noticed soon.
        HostChannel::offer_sub_channels(self, count).unwrap_or(0)
    }
}
