//! Integration components: the host's heartbeat, its requests to end, its clock, and tables of keys and values.
//!
//! A component is a [`Service`]: [`Heartbeat`], [`Shutdown`], [`Timesync`], [`Kvp`], each with what a kernel gives it (a
//! [`ShutdownHandler`], a [`Clock`], a [`KvpStore`]). [`serve`] opens its channel and answers the host for as long as that is
//! there; [`driver`] makes that a [`Driver`](crate::Driver) for the [`Registry`](crate::Registry). All versions are spoken, from
//! Windows Server 2008's on. The protocol is in [`hv_abi::ic`].
//!
//! What the host sends is copied once, then checked. A host that breaks a protocol loses that channel, with an [`IcError`]
//! that says why.
//!
//! ```no_run
//! use vsc_drivers::ic::{self, Heartbeat, IcError};
//! use vsc_drivers::{Hal, Registry};
//!
//! fn registry<H: Hal>(heartbeat: &Heartbeat) -> Registry<H> {
//!     let heartbeat = heartbeat.clone();
//!     let ended = |error: IcError| eprintln!("no heartbeat any more: {error}");
//!     let driver = ic::driver(move |_offer| heartbeat.clone(), ended);
//!     Registry::new().with(ic::HEARTBEAT_INTERFACE, driver)
//! }
//! ```

mod error;
mod heartbeat;
mod kvp;
mod message;
mod responder;
mod serve;
mod shutdown;
#[cfg(test)]
mod tests;
mod timesync;

pub use error::IcError;
pub use heartbeat::Heartbeat;
pub use hv_abi::ic::heartbeat::ApplicationState;
pub use hv_abi::ic::kvp::KvpPool;
pub use hv_abi::ic::{
    HEARTBEAT_INTERFACE, IcStatus, IcVersion, KVP_INTERFACE, SHUTDOWN_INTERFACE, TIMESYNC_INTERFACE,
};
pub use kvp::{Kvp, KvpFailure, KvpStore, KvpTables, KvpValue};
pub use responder::{Responder, Service, Versions};
pub use serve::{driver, serve};
pub use shutdown::{Shutdown, ShutdownHandler, ShutdownKind, ShutdownRequest};
pub use timesync::{Clock, TimeSample, Timesync};
