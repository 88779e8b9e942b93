//! What only the primary channel has: the guest's questions, the link, and the network's frames.

use std::collections::VecDeque;

use hv_abi::nvsp::NvspStatus;
use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{RndisMessageType, RndisQuery};
use zerocopy::FromBytes;

use super::NetVsp;
use super::control::{Card, handle, link_indication};
use super::deliver::{Deliverer, Turn};
use super::session::{Delivery, Session};
use super::settings::Settings;
use crate::process::tell;

/// Answers that may wait; a guest that asks more without listening gets none.
const MAX_MESSAGES: usize = 64;

/// State of the primary channel.
pub(super) struct Primary {
    /// Control messages for the guest, oldest first, that wait for a part of the receive buffer.
    pub(super) messages: VecDeque<Vec<u8>>,
    /// Those that have one, and wait for room in the ring.
    pub(super) placed: VecDeque<Delivery>,
    /// Number of channels that the guest was sent a table for.
    pub(super) table_of: u16,
    /// What the guest knows of the link.
    told_up: bool,
    deliverer: Deliverer,
    /// The network fails no more than once.
    gone: bool,
    held: bool,
}

impl Primary {
    pub(super) fn new(queues: u16) -> Self {
        Self {
            messages: VecDeque::new(),
            placed: VecDeque::new(),
            table_of: 1,
            told_up: true,
            deliverer: Deliverer::new(queues),
            gone: false,
            held: false,
        }
    }

    /// Whether the network's frames are waited for.
    pub(super) fn is_reading(&self) -> bool {
        !self.gone && !self.held
    }

    /// Does what a control message says.
    ///
    /// # Errors
    /// It is malformed, or the guest does not listen.
    pub(super) fn control(
        &mut self,
        card: &Card,
        settings: &mut Settings,
        kind: RndisMessageType,
        message: &[u8],
    ) -> Result<(), NvspStatus> {
        if self.messages.len() >= MAX_MESSAGES {
            return Err(NvspStatus::BUSY);
        }
        let answer = handle(card, settings, kind, message);
        self.messages.extend(answer.map_err(|_| NvspStatus::INVALID_RNDIS_PKT)?);
        let asks_for_link = |query: &RndisQuery| {
            query.oid == Oid::GEN_MEDIA_CONNECT_STATUS || query.oid == Oid::GEN_LINK_STATE
        };
        if kind == RndisMessageType::INIT {
            self.told_up = true;
        } else if kind == RndisMessageType::QUERY
            && RndisQuery::read_from_prefix(message).is_ok_and(|(query, _)| asks_for_link(&query))
        {
            self.told_up = card.link_up;
        }
        Ok(())
    }

    /// Takes frames of the network, and looks at the link. Tells whether there may be more frames.
    pub(super) fn take_frames(
        &mut self,
        device: &NetVsp,
        settings: &Settings,
        session: &Session,
        own: &mut impl Extend<Delivery>,
    ) -> bool {
        let mut turn = Turn::Idle;
        if !self.gone {
            let up = device.is_admin_up();
            let (backend, counters) = (&*device.backend, &device.counters);
            match self.deliverer.turn(backend, up, settings, session, counters, own) {
                Ok(done) => turn = done,
                Err(error) => {
                    self.gone = true;
                    tell(&format_args!("the network {} is gone: {error}", backend.describe()));
                }
            }
        }
        self.held = turn == Turn::Held;
        let up = device.is_link_up();
        if settings.initialized && up != self.told_up && self.messages.len() < MAX_MESSAGES {
            self.told_up = up;
            self.messages.push_back(link_indication(up));
        }
        turn == Turn::More
    }
}
