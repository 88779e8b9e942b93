//! The bus: what is on it, and the guest's connection to it.
//!
//! *Theory.* The guest posts messages to connections; each changes the state of the connection, of a channel or of a GPADL,
//! and most are answered. The host offers and rescinds by itself. *Practice.* A VP's thread only copies a message into the
//! [`inbox`]; the bus's own thread ([`dispatch`]) acts upon it with the [`state`] locked, and puts answers into the
//! [`outbox`], from which the SynIC fetches them as the guest takes them. Providers run on threads of their own ([`worker`]),
//! which tell by news in the inbox when they end.
//!
//! | what a guest asks | where |
//! | --- | --- |
//! | contact, unload | [`contact`] |
//! | offers, and their end | [`offers`] |
//! | memory | [`gpadls`] |
//! | open, close, another processor | [`open`] |

mod contact;
mod dispatch;
mod error;
mod gpadls;
pub(super) mod inbox;
mod monitor;
mod offers;
mod open;
mod outbox;
mod page_signals;
mod state;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use hv_abi::guid::Guid;
use hv_abi::synic::HvMessage;
use hv_abi::vmbus::message::VmbusMessage;
use hv_abi::vmbus::version::VmbusVersion;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use self::inbox::Inbox;
use self::outbox::{After, Cause, Outbox, encode};
use self::state::State;
use self::worker::Workers;
use super::device::VmbusDevice;
use super::stats::{BusStats, TrafficReport, VmbusReport};
use crate::hyperv::synic::Synic;
use crate::stats::lock;

/// How long the end of a machine waits for providers.
const PATIENCE: Duration = Duration::from_secs(2);

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
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl VmbusServer {
    /// A bus without devices, which answers the guest from now on.
    ///
    /// # Errors
    /// The connections for its messages are taken, or the operating system gives no thread.
    pub fn new(
        synic: Arc<Synic>,
        memory: GuestMemoryMmap,
        options: ServerOptions,
    ) -> Result<Arc<Self>, StartError> {
        let bus = Bus::new(synic, memory, options);
        bus.connect_messages()?;
        let runner = bus.clone();
        let thread = Builder::new().name("vmbus".into()).spawn(move || runner.run());
        let thread = thread.map_err(|error| {
            bus.disconnect_messages();
            StartError::Thread(error.raw_os_error().unwrap_or(0))
        })?;
        Ok(Arc::new(Self { bus, thread: Mutex::new(Some(thread)) }))
    }

    /// Puts a device on the bus, also while the machine runs.
    ///
    /// # Errors
    /// There is such a device, or no room.
    pub fn add(&self, device: Arc<dyn VmbusDevice>) -> Result<DeviceId, AddError> {
        self.bus.add(device)
    }

    /// Takes a device off the bus. Its channels close; the guest is told.
    pub fn remove(&self, id: DeviceId) {
        self.bus.remove(id);
    }

    /// Closes all channels and answers the guest no more. Returns when all providers have, or after 2 s.
    ///
    /// Gives the names of devices whose providers have not: they still run.
    pub fn stop(&self) -> Vec<String> {
        self.bus.disconnect_messages();
        self.bus.inbox.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // Should it have panicked, then that was told.
            let _ = thread.join();
        }
        self.bus.shut_down();
        self.bus.workers.wait(PATIENCE)
    }

    /// What went over the bus so far.
    pub fn traffic(&self) -> TrafficReport {
        self.bus.stats.traffic()
    }

    /// What was counted so far.
    pub fn report(&self) -> VmbusReport {
        self.bus.stats.report()
    }
}

impl Drop for VmbusServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A bus can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StartError {
    /// Somebody else answers messages to the connections of VMBus.
    #[error("VMBus's connections are taken")]
    Connections,
    /// The operating system gives no thread.
    #[error("no thread for VMBus, error {0}")]
    Thread(i32),
}

/// What the threads of a bus share.
pub(super) struct Bus {
    synic: Arc<Synic>,
    memory: GuestMemoryMmap,
    options: ServerOptions,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    stats: BusStats,
    workers: Workers,
    state: Mutex<State>,
}

impl Bus {
    pub(super) fn new(
        synic: Arc<Synic>,
        memory: GuestMemoryMmap,
        options: ServerOptions,
    ) -> Arc<Self> {
        let inbox = Arc::new(Inbox::default());
        Arc::new(Self {
            synic,
            memory,
            options,
            outbox: Arc::new(Outbox::new(inbox.clone())),
            inbox,
            stats: BusStats::default(),
            workers: Workers::default(),
            state: Mutex::default(),
        })
    }

    /// The guest's RAM.
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn synic(&self) -> &Arc<Synic> {
        &self.synic
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn wait_for_workers(&self) -> Vec<String> {
        self.workers.wait(PATIENCE * 5)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Answers over the present connection.
    fn send<M: VmbusMessage>(&self, state: &State, message: &M) {
        self.post(state, encode(message), Cause::Answer, After::Nothing);
    }

    /// Tells of something that the guest did not ask for.
    fn announce(&self, state: &State, message: HvMessage) {
        self.post(state, message, Cause::Announcement, After::Nothing);
    }

    fn post(&self, state: &State, message: HvMessage, cause: Cause, after: After) {
        let Some(target) = state.target else { return };
        self.stats.sent(&message);
        if self.outbox.push(message, cause, after) {
            self.synic.messages_wait(target);
        }
    }
}
