//! The host's side of the synthetic interrupt controller: who posts messages to a guest, raises its
//! event flags, and takes the calls by which it does so itself.
//!
//! *Use.* A device gets an `Arc<Synic>` ([`HypervInterface::synic`](super::HypervInterface::synic)), adds
//! a route for each [`Sint`] it wants to interrupt, and then
//!
//! - posts with [`Synic::post_message`]: one message waits for a slot that is occupied, a second one is
//!   [`PostError::Busy`] until the guest has taken the first (`HV_STATUS_INSUFFICIENT_BUFFERS`)
//! - or has more than one message fetched as the guest takes them, with [`Synic::feed_messages`]
//! - sets flags with [`Synic::signal_event`], which interrupts only when the flag was clear
//! - interrupts without either with [`Synic::raise`]
//! - answers `HvCallPostMessage` and `HvCallSignalEvent` on connections of its own with
//!   [`Synic::connect_messages`] and [`Synic::connect_events`] ([`Synic::connect_event_fd`] where KVM can
//!   do it without waking the host); unknown connections are `HV_STATUS_INVALID_CONNECTION_ID`
//!
//! All of it may be called from any thread, a handler of a connection included.
//!
//! *Inside.* KVM keeps the registers and tells when SCONTROL, SIMP or SIEFP change ([`Registers`]); the
//! two pages are plain guest memory ([`pages`]). KVM writes its own timers' messages into the same slots,
//! in the context of the VP; so we write a message only on the VP's own thread ([`Synic::work`]), to which
//! everybody else hands it by a kick. A SINT is an irqfd with a route of its own ([`lines`]); the resample
//! event tells of the guest's EOI or EOM, upon which a waiting message is tried again ([`acks`]).

pub mod acks;
pub mod connections;
pub mod lines;
pub mod pages;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hv_abi::synic::{HV_EVENT_FLAGS_COUNT, HvMessage, HvMessageType};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::errno;

use self::acks::Acks;
use self::connections::Connections;
use self::lines::SintLines;
use self::state::{Parts, Route, Vp};
use crate::stats::lock;

/// A synthetic interrupt source of one VP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sint {
    /// The VP.
    pub vp: u32,
    /// The source, 0 to 15.
    pub number: u8,
}

/// A route could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The machine has no such VP or source.
    #[error("there is no such VP or source")]
    NoSuchSint,
    /// KVM or the operating system refuses.
    #[error("{0}")]
    Refused(errno::Error),
}

/// A message or flag can't be given to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PostError {
    /// A message waits already.
    #[error("a message waits already")]
    Busy,
    /// Nobody made a route to the source.
    #[error("the source has no route")]
    NoRoute,
    /// The guest has disabled its SynIC or the page.
    #[error("the guest's SynIC is disabled")]
    Disabled,
    /// The message has no type, or the flag a number that is too large.
    #[error("no such message or flag")]
    Invalid,
}

/// What a route is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteUse {
    /// Event flags and bare interrupts.
    Events,
    /// Messages too. Every end of interrupt of the source costs the host a little.
    Messages,
}

/// SCONTROL, SIMP and SIEFP of a VP, as KVM last told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// `HV_X64_MSR_SCONTROL`.
    pub control: u64,
    /// `HV_X64_MSR_SIMP`.
    pub message_page: u64,
    /// `HV_X64_MSR_SIEFP`.
    pub event_page: u64,
}

/// Where a source's messages come from. Called on VP threads and with the route held, so it must be quick and not call
/// the [`Synic`].
pub trait MessageFeed: Send + Sync {
    /// The next message, which has a type and a size that are valid.
    fn next(&self) -> Option<HvMessage>;

    /// The guest has the last one in its slot.
    fn delivered(&self);
}

/// Brings a VP's thread back to the host; see `partition::kick`.
pub type Kick = Arc<dyn Fn(u32) + Send + Sync>;

/// The SynICs of a machine's VPs.
pub struct Synic {
    // Stops its thread first.
    acks: Acks,
    parts: Arc<Parts>,
    connections: Connections,
}

impl Synic {
    /// The SynICs of `vps` VPs with their pages in `memory`.
    pub fn new(memory: GuestMemoryMmap, vps: u32, lines: Box<dyn SintLines>, kick: Kick) -> Self {
        let vps = (0..vps).map(|_| Vp::default()).collect();
        let parts = Arc::new(Parts { memory, vps, lines, kick });
        Self { acks: Acks::default(), parts, connections: Connections::default() }
    }

    /// Makes a route to a source, or one more user of it.
    ///
    /// # Errors
    /// There is no such source, or the operating system refuses.
    pub fn add_route(&self, sint: Sint, use_: RouteUse) -> Result<(), RouteError> {
        let vp = self.parts.vp(sint).ok_or(RouteError::NoSuchSint)?;
        let mut routes = lock(&vp.routes);
        let slot = routes.get_mut(usize::from(sint.number)).ok_or(RouteError::NoSuchSint)?;
        if let Some(route) = slot.as_mut().filter(|route| route.use_ >= use_) {
            route.users = route.users.saturating_add(1);
            return Ok(());
        }
        let old = slot.take();
        let users = old.as_ref().map_or(0, |route| route.users);
        if let Some(route) = old {
            self.disconnect(sint, route);
        }
        let line = self.parts.lines.connect(sint, use_).map_err(RouteError::Refused)?;
        if let Some(ack) = &line.acknowledged {
            self.acks.watch(sint, ack, &self.parts).map_err(RouteError::Refused)?;
        }
        let (users, waiting) = (users.saturating_add(1), None);
        *slot = Some(Route { line, use_, users, waiting, feed: None, fed: false });
        Ok(())
    }

    /// Has a source's messages fetched from `feed` whenever its slot can take one, from now on and as long as there is the
    /// route.
    ///
    /// # Errors
    /// The source has no route for messages.
    pub fn feed_messages(&self, sint: Sint, feed: Arc<dyn MessageFeed>) -> Result<(), PostError> {
        self.parts.with_route(sint, |route| {
            if route.use_ < RouteUse::Messages {
                return Err(PostError::NoRoute);
            }
            route.feed = Some(feed);
            Ok(())
        })?;
        self.parts.ask_for_work(sint.vp);
        Ok(())
    }

    /// Fetches a source's messages no more; one that was fetched and still waits is forgotten.
    pub fn stop_feeding(&self, sint: Sint) {
        // Without a route nothing is fetched.
        let _: Result<(), PostError> = self.parts.with_route(sint, |route| {
            route.feed = None;
            if std::mem::take(&mut route.fed) {
                route.waiting = None;
            }
            Ok(())
        });
    }

    /// A feed that had nothing has something.
    pub fn messages_wait(&self, sint: Sint) {
        self.parts.ask_for_work(sint.vp);
    }

    /// Gives up one use of a route. With the last one the route goes, and a message that waits.
    pub fn remove_route(&self, sint: Sint) {
        let Some(vp) = self.parts.vp(sint) else { return };
        let mut routes = lock(&vp.routes);
        let Some(slot) = routes.get_mut(usize::from(sint.number)) else { return };
        match slot.take() {
            Some(route) if route.users <= 1 => self.disconnect(sint, route),
            Some(mut route) => {
                route.users -= 1;
                *slot = Some(route);
            }
            None => {}
        }
    }

    fn disconnect(&self, sint: Sint, route: Route) {
        if let Some(ack) = &route.line.acknowledged {
            self.acks.forget(ack);
        }
        self.parts.lines.disconnect(sint, &route.line);
    }

    /// Interrupts the VP by one of its sources.
    ///
    /// # Errors
    /// The source has no route.
    pub fn raise(&self, sint: Sint) -> Result<(), PostError> {
        self.parts.with_route(sint, |route| {
            route.line.raise();
            Ok(())
        })
    }

    /// Posts a message: into the slot if that is empty, else to be delivered when the guest has emptied
    /// it. `message_flags` is the SynIC's own.
    ///
    /// # Errors
    /// Another message waits, the source has no route, or the guest disabled its SynIC.
    pub fn post_message(&self, sint: Sint, message: &HvMessage) -> Result<(), PostError> {
        if message.header.message_type == HvMessageType::NONE
            || usize::from(message.header.payload_size) > message.payload.len()
        {
            return Err(PostError::Invalid);
        }
        let vp = self.parts.vp(sint).ok_or(PostError::NoRoute)?;
        self.parts.with_route(sint, |route| {
            if vp.page(&vp.message_page).is_none() {
                return Err(PostError::Disabled);
            }
            if route.use_ < RouteUse::Messages {
                return Err(PostError::NoRoute);
            }
            if route.waiting.is_some() {
                return Err(PostError::Busy);
            }
            route.waiting = Some(*message);
            Ok(())
        })?;
        self.parts.ask_for_work(sint.vp);
        Ok(())
    }

    /// Sets an event flag, and raises the source if the flag was clear. Tells whether it was.
    ///
    /// # Errors
    /// The source has no route, there is no such flag, or the guest disabled its SynIC.
    pub fn signal_event(&self, sint: Sint, flag: u16) -> Result<bool, PostError> {
        if usize::from(flag) >= HV_EVENT_FLAGS_COUNT {
            return Err(PostError::Invalid);
        }
        let vp = self.parts.vp(sint).ok_or(PostError::NoRoute)?;
        self.parts.with_route(sint, |route| {
            let page = vp.page(&vp.event_page).ok_or(PostError::Disabled)?;
            let set = pages::set_flag(&self.parts.memory, page, sint.number, flag);
            let was_clear = set.ok_or(PostError::Disabled)?;
            if was_clear {
                route.line.raise();
            }
            Ok(was_clear)
        })
    }

    /// Connections for messages and events, by which the guest calls.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// KVM tells that the guest wrote one of its registers. On the VP's thread.
    pub fn registers_changed(&self, vp: u32, registers: Registers) {
        let Some(state) = self.parts.vps.get(vp as usize) else { return };
        state.control.store(registers.control, Ordering::Release);
        state.message_page.store(registers.message_page, Ordering::Release);
        state.event_page.store(registers.event_page, Ordering::Release);
        state.has_work.store(true, Ordering::Release);
    }

    /// Delivers what waits for a VP. Only on the VP's thread, outside the guest.
    pub fn work(&self, vp: u32) {
        if let Some(state) = self.parts.vps.get(vp as usize) {
            self.parts.deliver(state);
        }
    }
}
