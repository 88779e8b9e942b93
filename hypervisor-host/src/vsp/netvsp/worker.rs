//! The loop of a channel: packets of the guest, frames of the network, and what goes back to the guest.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use hv_abi::nvsp::{
    NvspChannelType, NvspMessage, NvspSendRndisPacket, NvspSendRndisPacketComplete, NvspStatus,
};
use hv_abi::rndis::RndisMessageType;
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::Packet;

use super::error::NetVspError;
use super::message::{GuestMessage, HostMessage};
use super::primary::Primary;
use super::session::{Delivery, Session};
use super::settings::Settings;
use super::transactions::Transactions;
use super::transmit::{Transmit, send_frame};
use super::{Card, NetVsp};
use crate::vmbus::{ChannelError, HostChannel, ServeError, Wake};

mod outbound;

/// Packets of the guest in one turn.
const TURN: usize = 64;
/// Completions that may wait for room in the ring; then no more packets are taken from the guest.
const MAX_COMPLETIONS: usize = 256;

/// What ends a channel's loop: it is closed, or for good.
pub(super) enum End {
    Closed,
    Error(ServeError),
}

impl From<ChannelError> for End {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::Closed,
            error => Self::Error(error.into()),
        }
    }
}

impl From<NetVspError> for End {
    fn from(error: NetVspError) -> Self {
        Self::Error(error.into())
    }
}

/// An open channel's state.
pub(super) struct Worker<'d> {
    device: &'d NetVsp,
    session: Arc<Session>,
    /// Number of the channel; 0 is the primary one.
    channel: u16,
    settings: Arc<Settings>,
    generation: u64,
    transmit: Transmit,
    /// Answers to the guest's packets.
    completions: VecDeque<(u64, HostMessage)>,
    /// Frames and control messages in the receive buffer.
    deliveries: VecDeque<Delivery>,
    transactions: Transactions,
    /// What only the primary channel has.
    primary: Option<Primary>,
}

/// What a packet asks for that needs the channel itself.
enum Request {
    Nothing,
    Message { message: GuestMessage, transaction: u64, wants_completion: bool },
}

impl<'d> Worker<'d> {
    pub(super) fn new(
        device: &'d NetVsp,
        session: Arc<Session>,
        channel: &HostChannel,
        primary: Option<Primary>,
    ) -> Self {
        let settings = session.shared.get();
        let generation = session.shared.generation();
        Self {
            device,
            session,
            channel: channel.sub_channel_index(),
            settings,
            generation,
            transmit: Transmit::new(channel.memory().clone()),
            completions: VecDeque::new(),
            deliveries: VecDeque::new(),
            transactions: Transactions::default(),
            primary,
        }
    }

    /// Serves the channel until it ends.
    pub(super) fn run(mut self, channel: &mut HostChannel) -> End {
        self.session.enter(self.channel, channel.waker());
        let end = loop {
            if let Err(end) = self.turn(channel) {
                break end;
            }
        };
        self.session.leave(self.channel);
        self.refresh();
        self.give_up();
        end
    }

    fn turn(&mut self, channel: &mut HostChannel) -> Result<(), End> {
        self.refresh();
        let more_from_guest = self.take_packets(channel)?;
        self.device.backend.flush();
        let more_from_network = self.take_frames();
        if let Some(buffer) = &self.settings.receive {
            self.session.take(self.channel, buffer.serial, &mut self.deliveries);
        }
        match self.send_all(channel)? {
            // The guest's packets must wait too, and so must not wake us.
            Some(needed) if self.completions.len() >= MAX_COMPLETIONS => {
                self.sleep(|others| channel.wait_room(needed, others, None))
            }
            _ if more_from_guest || more_from_network => Ok(()),
            _ => self.sleep(|others| channel.wait(others, None)),
        }
    }

    fn sleep(
        &self,
        wait: impl FnOnce(&[BorrowedFd<'_>]) -> Result<Wake, ChannelError>,
    ) -> Result<(), End> {
        let network = self.primary.as_ref().filter(|primary| primary.is_reading());
        let network = network.map(|_| self.device.backend.readiness());
        match wait(network.as_slice())? {
            Wake::Closed => Err(End::Closed),
            _ => Ok(()),
        }
    }

    /// Looks at the settings again if they changed.
    fn refresh(&mut self) {
        let generation = self.session.shared.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        self.adopt(self.session.shared.get());
    }

    fn adopt(&mut self, settings: Arc<Settings>) {
        let serial = |settings: &Settings| settings.receive.as_ref().map(|buffer| buffer.serial);
        if serial(&settings) != serial(&self.settings) {
            // What lay in the old buffer went with it.
            self.deliveries.clear();
            self.transactions.end_all().for_each(drop);
            if let Some(primary) = &mut self.primary {
                primary.placed.clear();
            }
        }
        self.settings = settings;
    }

    /// Changes the settings, for all channels. Only on the primary one.
    fn change(&mut self, settings: Settings) {
        let settings = Arc::new(settings);
        self.session.shared.set(Arc::clone(&settings));
        self.generation = self.session.shared.generation();
        self.adopt(settings);
        self.session.wake_all();
    }

    /// Takes packets of the guest; tells whether there may be more.
    fn take_packets(&mut self, channel: &mut HostChannel) -> Result<bool, End> {
        for _ in 0..TURN {
            if self.completions.len() >= MAX_COMPLETIONS {
                return Ok(false);
            }
            let Some(packet) = channel.receive()? else { return Ok(false) };
            match self.take_packet(&packet)? {
                Request::Nothing => {}
                Request::Message { message, transaction, wants_completion } => {
                    let completion = self.set_up(channel, &message)?;
                    if wants_completion {
                        self.completions.push_back((transaction, completion));
                    }
                }
            }
        }
        Ok(true)
    }

    fn take_packet(&mut self, packet: &Packet<'_>) -> Result<Request, NetVspError> {
        match packet.kind() {
            PacketType::COMP => {
                self.complete(packet.transaction_id());
                return Ok(Request::Nothing);
            }
            PacketType::DATA_INBAND | PacketType::DATA_USING_GPA_DIRECT => {}
            other => return Err(NetVspError::PacketKind(other)),
        }
        let message = GuestMessage::parse(packet.payload())?;
        let (transaction, wants_completion) =
            (packet.transaction_id(), packet.completion_requested());
        let GuestMessage::Rndis(rndis) = message else {
            return Ok(Request::Message { message, transaction, wants_completion });
        };
        if self.settings.version.is_none() {
            return Err(NetVspError::OutOfOrder(message.number()));
        }
        let status = match self.rndis(packet, &rndis) {
            Ok(()) => NvspStatus::SUCCESS,
            Err(status) => {
                self.device.counters.tx_invalid.add(1);
                status
            }
        };
        if wants_completion {
            let completion =
                NvspSendRndisPacketComplete { msg_type: NvspSendRndisPacketComplete::TYPE, status };
            let completion = HostMessage::new(&completion, self.settings.version());
            self.completions.push_back((transaction, completion));
        }
        Ok(Request::Nothing)
    }

    /// Does what the RNDIS messages of a packet say.
    fn rndis(
        &mut self,
        packet: &Packet<'_>,
        message: &NvspSendRndisPacket,
    ) -> Result<(), NvspStatus> {
        self.transmit.take(packet, message, &self.settings)?;
        if message.channel_type == NvspChannelType::DATA {
            self.send_frames()
        } else if message.channel_type == NvspChannelType::CONTROL {
            self.control()
        } else {
            Err(NvspStatus::INVALID_RNDIS_PKT)
        }
    }

    fn send_frames(&mut self) -> Result<(), NvspStatus> {
        if !self.settings.initialized {
            return Err(NvspStatus::FAIL);
        }
        let NetVsp { backend, counters, .. } = self.device;
        let (settings, up) = (&self.settings, self.device.is_admin_up());
        counters.tx_packets.add(1);
        self.transmit.messages(|kind, message| {
            if kind != RndisMessageType::PACKET {
                return Err(NvspStatus::INVALID_RNDIS_PKT);
            }
            if !up {
                counters.tx_dropped.add(1);
                return Ok(());
            }
            send_frame(&**backend, counters, settings, message)
        })
    }

    fn control(&mut self) -> Result<(), NvspStatus> {
        let primary = self.primary.as_mut().ok_or(NvspStatus::FAIL)?;
        let card = self.device.card();
        let mut settings = (*self.settings).clone();
        let result = self
            .transmit
            .messages(|kind, message| primary.control(&card, &mut settings, kind, message));
        self.change(settings);
        result
    }

    fn set_up(
        &mut self,
        channel: &mut HostChannel,
        message: &GuestMessage,
    ) -> Result<HostMessage, NetVspError> {
        if self.primary.is_none() {
            return Err(NetVspError::OutOfOrder(message.number()));
        }
        let mut settings = (*self.settings).clone();
        let limits = self.device.limits();
        let completion = super::negotiate::handle(&limits, &mut settings, channel, message)?;
        self.change(settings);
        Ok(completion)
    }

    /// The guest has done with a packet.
    fn complete(&mut self, transaction: u64) {
        let buffer = self.settings.receive.as_ref();
        match (self.transactions.end(transaction), buffer) {
            (Some(parts), Some(buffer)) => {
                parts.iter().for_each(|&part| buffer.release(self.channel, part));
            }
            _ => self.device.counters.bad_completions.add(1),
        }
    }

    /// Takes frames of the network, on the primary channel; tells whether there may be more.
    fn take_frames(&mut self) -> bool {
        let Some(primary) = &mut self.primary else { return false };
        primary.take_frames(self.device, &self.settings, &self.session, &mut self.deliveries)
    }

    /// Gives back all parts of the receive buffer.
    fn give_up(&mut self) {
        let Some(buffer) = &self.settings.receive else { return };
        self.session.take(self.channel, buffer.serial, &mut self.deliveries);
        let waiting = self.deliveries.drain(..).map(|delivery| delivery.part);
        for part in waiting.chain(self.transactions.end_all()) {
            buffer.release(self.channel, part);
        }
    }
}

impl NetVsp {
    /// What the card is now.
    fn card(&self) -> Card {
        Card {
            address: self.address,
            mtu: self.mtu,
            queues: self.queues,
            link_up: self.is_link_up(),
            counts: self.counters.read(),
        }
    }
}
