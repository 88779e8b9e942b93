//! What the bus knows, and what each message does to it.
//!
//! Nothing here posts, waits or calls the kernel: the lock is held only for moments.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::vmbus::message::{OfferChannel, RescindChannelOffer};
use hv_abi::vmbus::version::VmbusVersion;

use super::chores::{Chore, Keep};
use super::counts::Counters;
use super::life::{Fate, Life};
use super::message::HostMessage;
use super::request::{Answer, Expected, Questions};
use super::{Change, ChannelError, ChannelId, Offer};
use crate::hal::Hal;

/// Changes that are kept for a listener: enough for every channel to come and go.
const MAX_CHANGES: usize = 4096;
/// The first number of a GPADL (Linux, `vmbus_connection`): easy to find in a trace.
const FIRST_GPADL: u32 = 0xE_1E10;

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Disconnected,
    /// The host is asked for this version.
    Connecting(VmbusVersion),
    Connected(Contact),
    Unloading,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) version: VmbusVersion,
    /// Connection for the guest's messages.
    pub(super) messages: u32,
}

/// A channel that the host offers, or took back while somebody still uses it.
struct Entry {
    offer: Offer,
    life: Arc<Life>,
    claimed: bool,
    rescinded: bool,
}

pub(crate) struct State<H: Hal> {
    pub(super) connection: Connection,
    /// Counts connections.
    pub(super) connections: u64,
    /// Whether the host may know the pages for signals.
    pub(super) contacted: bool,
    channels: BTreeMap<ChannelId, Entry>,
    max_channels: usize,
    pub(super) changes: VecDeque<Change>,
    pub(super) all_delivered: bool,
    pub(super) questions: Questions,
    pub(super) chores: VecDeque<Chore<H>>,
    /// Memory that the host did not give back in time, by GPADL.
    pub(super) kept: BTreeMap<u32, Keep<H>>,
    next_gpadl: u32,
    next_openid: u32,
}

impl<H: Hal> State<H> {
    pub(super) const fn new(max_channels: usize) -> Self {
        Self {
            connection: Connection::Disconnected,
            connections: 0,
            contacted: false,
            channels: BTreeMap::new(),
            max_channels,
            changes: VecDeque::new(),
            all_delivered: false,
            questions: Questions::new(),
            chores: VecDeque::new(),
            kept: BTreeMap::new(),
            next_gpadl: FIRST_GPADL,
            next_openid: 1,
        }
    }

    pub(super) fn is_disconnected(&self) -> bool {
        self.connection == Connection::Disconnected
    }

    pub(super) fn version(&self) -> Option<VmbusVersion> {
        match self.connection {
            Connection::Connected(contact) => Some(contact.version),
            _ => None,
        }
    }

    /// Where messages go that concern something of the connection with that number.
    pub(super) fn message_connection(&self, connection: u64) -> Option<u32> {
        match self.connection {
            Connection::Connected(contact) if connection == self.connections => {
                Some(contact.messages)
            }
            _ => None,
        }
    }

    fn live(&self) -> impl Iterator<Item = &Offer> {
        self.channels.values().filter(|entry| !entry.rescinded).map(|entry| &entry.offer)
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        self.live().cloned().collect()
    }

    /// The sub-channel with that number of the device that `primary` is the primary channel of.
    pub(crate) fn sub_channel(&self, primary: &Offer, index: u16) -> Option<ChannelId> {
        let sub = |offer: &&Offer| offer.is_of(primary) && offer.sub_channel == index;
        self.live().find(sub).map(|offer| offer.channel)
    }

    /// Takes the channel for one user.
    pub(super) fn claim(&mut self, channel: ChannelId) -> Result<(Offer, Arc<Life>), ChannelError> {
        let entry = self.channels.get_mut(&channel).ok_or(ChannelError::NoChannel)?;
        if entry.rescinded {
            return Err(ChannelError::Rescinded);
        }
        if entry.claimed {
            return Err(ChannelError::Busy);
        }
        entry.claimed = true;
        Ok((entry.offer.clone(), entry.life.clone()))
    }

    /// The last part of what [`claim`](Self::claim) gave is gone.
    pub(super) fn unclaim(&mut self, channel: ChannelId, life: &Arc<Life>) {
        let entry = self.channels.get_mut(&channel).filter(|entry| Arc::ptr_eq(&entry.life, life));
        let Some(entry) = entry else { return };
        entry.claimed = false;
        if entry.rescinded {
            self.release(channel);
        }
    }

    /// Nobody uses a channel that was taken back: its number is the host's again.
    fn release(&mut self, channel: ChannelId) {
        if let Some(entry) = self.channels.remove(&channel) {
            self.chores.push_back(Chore::Release(channel, entry.life));
        }
    }

    /// A number for a new GPADL, not 0.
    pub(super) fn new_gpadl(&mut self) -> u32 {
        loop {
            let gpadl = self.next_gpadl;
            self.next_gpadl = gpadl.wrapping_add(1).max(1);
            // After four thousand million of them one may still be with the host.
            if !self.kept.contains_key(&gpadl) {
                return gpadl;
            }
        }
    }

    /// A number for a new request to open a channel, not 0.
    pub(super) fn new_openid(&mut self) -> u32 {
        let openid = self.next_openid;
        self.next_openid = openid.wrapping_add(1).max(1);
        openid
    }

    /// Does what a message says; returns the channel that it takes back, if it does.
    pub(super) fn on_message(
        &mut self,
        message: HostMessage,
        counters: &Counters,
    ) -> Option<ChannelId> {
        let answered = match message {
            HostMessage::Offer(message) => {
                self.on_offer(&message, counters);
                true
            }
            HostMessage::Rescind(message) => return self.on_rescind(message, counters),
            HostMessage::AllOffersDelivered => self.on_all_delivered(),
            HostMessage::GpadlTorndown(message) => self.on_torndown(message.gpadl, counters),
            answer => self.on_answer(answer),
        };
        if !answered {
            counters.unexpected_answers.increment();
        }
        None
    }

    /// Whether anybody asked.
    fn on_answer(&mut self, message: HostMessage) -> bool {
        let (expected, answer) = match message {
            HostMessage::Version(response, features) => {
                (Some(Expected::Version), Answer::Version(response, features))
            }
            HostMessage::OpenResult(result) => {
                let opened = |channel| Expected::Opened { channel, openid: result.openid };
                (ChannelId::new(result.child_relid).map(opened), Answer::Status(result.status))
            }
            HostMessage::GpadlCreated(created) => {
                let expected = |channel| Expected::Created { channel, gpadl: created.gpadl };
                let status = Answer::Status(created.creation_status);
                (ChannelId::new(created.child_relid).map(expected), status)
            }
            HostMessage::ModifyResponse(response) => {
                let modified = |channel| Expected::Modified { channel };
                (
                    ChannelId::new(response.child_relid).map(modified),
                    Answer::Status(response.status),
                )
            }
            HostMessage::UnloadResponse => (Some(Expected::Unloaded), Answer::Status(0)),
            _ => (None, Answer::Status(0)),
        };
        expected.is_some_and(|expected| self.questions.answer(|other| other == expected, answer))
    }

    fn on_torndown(&mut self, torndown: u32, counters: &Counters) -> bool {
        if let Some(keep) = self.kept.remove(&torndown) {
            // Late, but the memory is the guest's again.
            counters.kept_pages.subtract(keep.pages() as u64);
            self.chores.push_back(Chore::Free(keep));
            return true;
        }
        let expects =
            |expected| matches!(expected, Expected::Torndown { gpadl, .. } if gpadl == torndown);
        self.questions.answer(expects, Answer::Status(0))
    }

    fn on_all_delivered(&mut self) -> bool {
        let expected = self.version().is_some() && !self.all_delivered;
        if expected {
            self.all_delivered = true;
            self.changes.push_back(Change::AllDelivered);
        }
        expected
    }

    fn on_offer(&mut self, message: &OfferChannel, counters: &Counters) {
        let offer = self.version().and_then(|version| Offer::parse(message, version));
        match offer.filter(|offer| self.is_acceptable(offer)) {
            Some(offer) => {
                self.tell(Change::Offered(offer.clone()), counters);
                let life = Arc::new(Life::new(self.connections));
                let entry = Entry { life, claimed: false, rescinded: false, offer };
                self.channels.insert(entry.offer.channel, entry);
            }
            None => counters.bad_offers.increment(),
        }
    }

    fn is_acceptable(&self, offer: &Offer) -> bool {
        let twin = |other: &Offer| other.is_of(offer) && other.sub_channel == offer.sub_channel;
        self.channels.len() < self.max_channels
            && !self.channels.contains_key(&offer.channel)
            && !self.live().any(twin)
    }

    fn tell(&mut self, change: Change, counters: &Counters) {
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
            counters.lost_changes.increment();
        }
        self.changes.push_back(change);
    }

    /// Whether nobody was told of the channel's offer, and nobody will be.
    fn forget_offer(&mut self, channel: ChannelId) -> bool {
        let offered =
            |change: &Change| matches!(change, Change::Offered(offer) if offer.channel == channel);
        let index = self.changes.iter().rposition(offered);
        index.and_then(|index| self.changes.remove(index)).is_some()
    }

    fn on_rescind(
        &mut self,
        message: RescindChannelOffer,
        counters: &Counters,
    ) -> Option<ChannelId> {
        let channel = ChannelId::new(message.child_relid);
        let entry = channel.and_then(|channel| self.channels.get_mut(&channel));
        let Some(entry) = entry.filter(|entry| !entry.rescinded) else {
            counters.bad_rescinds.increment();
            return None;
        };
        entry.rescinded = true;
        entry.life.set(Fate::Rescinded);
        let (channel, claimed) = (entry.offer.channel, entry.claimed);
        self.questions.give_up_channel(channel);
        if !self.forget_offer(channel) {
            self.tell(Change::Rescinded(channel), counters);
        }
        if !claimed {
            self.release(channel);
        }
        Some(channel)
    }

    /// The connection ends: nobody may use a channel any longer. Returns the channels.
    pub(super) fn begin_unload(&mut self) -> Vec<(ChannelId, Arc<Life>)> {
        self.connection = Connection::Unloading;
        self.all_delivered = false;
        self.questions.give_up();
        self.changes.clear();
        let channels = core::mem::take(&mut self.channels).into_values();
        channels
            .map(|entry| {
                entry.life.set(Fate::Unloading);
                (entry.offer.channel, entry.life)
            })
            .collect()
    }
}
