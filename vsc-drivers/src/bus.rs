//! The bus: one connection to the host, what the host offers by it, and the channels that were opened.
//!
//! **Theory.** Guest and host exchange messages through the SynIC. The guest asks for a version of the protocol until the host
//! agrees, and for offers, each of which is one channel of one device. A channel is opened by telling the host of the memory
//! of its two rings, and is signalled by event flags from then on. The host may take anything back at any moment.
//!
//! **Practice.** The interrupt handler of the bus's SINT gives messages to [`Vmbus::on_message`] and event flags to
//! [`Vmbus::on_event`]. Everything else happens in tasks: [`Vmbus::connect`], then [`Vmbus::run`] for ever beside whatever else.
//! State is behind one lock, which no interrupt handler takes; a channel's data path does not take it either.
//!
//! - [`options`](BusOptions), errors, [`BusCounts`]: what may be chosen, and what may go wrong
//! - `inbox`, `message`: from the interrupt handler to a checked message
//! - `state`, `request`: channels, and questions that wait for their answers
//! - `connect`: versions, offers, unload; `chores`: what goes on after a handle was dropped
//! - `pages`: signals without a call

mod chores;
mod claim;
mod connect;
mod counts;
mod error;
mod inbox;
mod life;
mod message;
mod offer;
mod options;
mod pages;
mod post;
mod request;
mod state;
#[cfg(test)]
mod tests;

use chores::Crew;
pub(crate) use chores::{Chore, Ending, Grant, Keep};
pub(crate) use claim::Claim;
pub use counts::BusCounts;
pub use error::{BusError, ChannelError, Request};
pub(crate) use life::Life;
pub use offer::{Change, ChannelId, Offer};
pub use options::BusOptions;
pub(crate) use request::{Answer, Expected};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::future::poll_fn;
use core::mem;
use core::task::{Context, Poll};

use hv_abi::vmbus::VMBUS_MAX_CHANNEL_ID;
use hv_abi::vmbus::version::VmbusVersion;
use spin::{Mutex, Once};

use crate::hal::Hal;
use crate::task::{Bell, within};
use counts::Counters;
use inbox::{Inbox, NotTaken};
use message::{BadMessage, HostMessage};
use pages::SignalPages;
use state::State;

/// Event flags of a source; all but the first are channels'.
const FLAGS: usize = VMBUS_MAX_CHANNEL_ID as usize + 1;

/// The bus. Clones are the same bus.
pub struct Vmbus<H: Hal> {
    pub(crate) shared: Arc<Shared<H>>,
}

impl<H: Hal> Clone for Vmbus<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// What all parts of a bus and of its channels have in common.
pub(crate) struct Shared<H: Hal> {
    pub(crate) hal: H,
    pub(crate) options: BusOptions,
    inbox: Inbox,
    /// By event flag.
    flags: Box<[Bell]>,
    state: Mutex<State<H>>,
    /// Rings when anything in the state has changed.
    changed: Bell,
    /// Given to the host at the first contact, and never freed after.
    pages: Once<SignalPages<H>>,
    crew: Crew,
    pub(crate) counters: Counters,
}

impl<H: Hal> Vmbus<H> {
    /// A bus without a connection. Takes about 100 KiB for event flags, and [`BusOptions::inbox_bytes`].
    pub fn new(hal: H, options: BusOptions) -> Self {
        let shared = Shared {
            inbox: Inbox::new(options.inbox_bytes),
            flags: (0..FLAGS).map(|_| Bell::new()).collect(),
            state: Mutex::new(State::new(options.max_channels)),
            changed: Bell::new(),
            pages: Once::new(),
            crew: Crew::default(),
            counters: Counters::default(),
            hal,
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// For the interrupt handler: a message that came for the bus's source, its payload. Fit for interrupt handlers.
    pub fn on_message(&self, payload: &[u8]) {
        let Shared { inbox, hal, counters, .. } = &*self.shared;
        match inbox.push(hal, payload) {
            Ok(()) => {}
            Err(NotTaken::TooLong) => counters.malformed_messages.increment(),
            Err(NotTaken::NoRoom) => counters.lost_messages.increment(),
        }
    }

    /// For the interrupt handler: an event flag of the bus's source was set, on any processor. Fit for interrupt handlers.
    ///
    /// Flag 0 stands for the interrupt page, which hosts before version 2.4 use (Linux before 5.12, `vmbus_chan_sched`).
    pub fn on_event(&self, flag: u16) {
        if flag != 0 {
            self.shared.ring(flag);
        } else if let Some(pages) = self.shared.pages.get() {
            pages.take(|channel| self.shared.ring(channel));
        }
    }

    /// The bus's task: reads messages, and does what is left to do when a handle was dropped. Poll it for ever, also before
    /// [`connect`](Self::connect) and after [`unload`](Self::unload); one task is enough.
    pub async fn run(&self) -> Infallible {
        poll_fn(|context| {
            self.shared.pump(context);
            self.shared.crew.poll(self, context);
            Poll::Pending
        })
        .await
    }

    /// What the host offers at the moment, sub-channels included.
    pub fn offers(&self) -> Vec<Offer> {
        self.shared.state.lock().offers()
    }

    /// The next change that nobody has been told of. Each is told once: there is one listener, such as a [`Registry`](crate::Registry).
    pub async fn next_change(&self) -> Change {
        self.shared.until(|state| state.changes.pop_front()).await
    }

    /// Waits until the host has offered all that it had when it was asked.
    ///
    /// # Errors
    ///
    /// [`BusError::NoAnswer`] with [`Request::Offers`], [`BusError::Disconnected`].
    pub async fn all_offers_delivered(&self) -> Result<(), BusError> {
        let delivered = self.shared.until(|state| match state.version() {
            None => Some(Err(BusError::Disconnected)),
            Some(_) => state.all_delivered.then_some(Ok(())),
        });
        let limit = self.shared.options.time_limit_100ns;
        let no_answer = Err(BusError::NoAnswer(Request::Offers));
        within(&self.shared.hal, limit, delivered).await.unwrap_or(no_answer)
    }

    /// The version of the connection, if there is one.
    pub fn version(&self) -> Option<VmbusVersion> {
        self.shared.state.lock().version()
    }

    /// What went wrong so far without being anybody's error.
    pub fn counts(&self) -> BusCounts {
        self.shared.counters.snapshot()
    }

    /// The kernel.
    pub fn hal(&self) -> &H {
        &self.shared.hal
    }
}

impl<H: Hal> Shared<H> {
    fn ring(&self, flag: u16) {
        if let Some(bell) = self.flags.get(usize::from(flag)) {
            bell.ring(&self.hal);
        }
    }

    /// Where the host's signals to `channel` arrive.
    pub(crate) fn bell(&self, channel: ChannelId) -> &Bell {
        // A channel's number is below the number of flags by construction.
        self.flags.get(usize::from(channel.flag())).unwrap_or(&self.changed)
    }

    /// The pages for signals, once there was a connection.
    pub(crate) fn signal_pages(&self) -> Option<&SignalPages<H>> {
        self.pages.get()
    }

    /// A number for a new GPADL, not 0.
    pub(crate) fn new_gpadl(&self) -> u32 {
        self.state.lock().new_gpadl()
    }

    /// A number for a new request to open a channel, not 0.
    pub(crate) fn new_openid(&self) -> u32 {
        self.state.lock().new_openid()
    }

    /// Reads all messages there are, and has the task woken when others come.
    fn pump(&self, context: &Context<'_>) {
        self.inbox.bell.listen(&self.hal, context.waker());
        while let Some(rescinded) = self.read_one() {
            self.changed.ring(&self.hal);
            if let Some(channel) = rescinded {
                self.bell(channel).ring(&self.hal);
            }
        }
    }

    /// Reads one message. `Some`: there was one; with the channel, if that was taken back.
    fn read_one(&self) -> Option<Option<ChannelId>> {
        // Locked before the message is taken, so that nobody reads a later one first.
        let mut state = self.state.lock();
        let raw = self.inbox.pop(&self.hal)?;
        let version = state.version().unwrap_or(VmbusVersion::V6_0);
        match HostMessage::parse(raw.bytes(), version) {
            Ok(message) => Some(state.on_message(message, &self.counters)),
            Err(BadMessage::Short) => {
                self.counters.malformed_messages.increment();
                Some(None)
            }
            Err(BadMessage::UnknownType(_)) => {
                self.counters.unknown_messages.increment();
                Some(None)
            }
        }
    }

    /// Waits until `look` finds something in the state. Reads messages meanwhile.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut State<H>) -> Option<T>) -> T {
        poll_fn(|context| {
            self.changed.listen(&self.hal, context.waker());
            self.pump(context);
            look(&mut self.state.lock()).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Changes the state, and has everybody look again who waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State<H>) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.ring(&self.hal);
        result
    }
}

impl<H: Hal> Drop for Shared<H> {
    fn drop(&mut self) {
        // Whoever drops a bus without unloading it leaves the host with the pages.
        let contacted = self.state.get_mut().contacted;
        if let Some(pages) = mem::take(&mut self.pages).try_into_inner().filter(|_| contacted) {
            pages.leak();
        }
    }
}
