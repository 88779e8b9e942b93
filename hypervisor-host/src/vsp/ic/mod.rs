//! Integration components: heartbeat, shutdown, time synchronisation and key-value exchange, as Hyper-V offers them.
//!
//! Each is a [`Component`]: a handle for the rest of the host ([`Heartbeat::status`], [`Shutdown::request`], [`Kvp::get`]…),
//! from which every channel that a guest opens gets a [`session`]. Sessions do no input or output; [`IcDevice`] carries
//! between them and the bus. [`Components`] is all that a machine has of them.
//!
//! - [`message`], [`session`]: packets taken apart and put together, negotiation of versions
//! - [`calls`]: requests from other threads
//! - [`heartbeat`], [`shutdown`], [`timesync`] with [`clock`], [`kvp`]: the components
//! - [`components`]: which of them a machine has
//!
//! The protocol is in [`hv_abi::ic`]. A guest that breaks it loses that channel, and an [`IcError`] says why.

pub mod calls;
pub mod clock;
pub mod component;
pub mod components;
pub mod device;
pub mod error;
pub mod heartbeat;
pub mod kvp;
pub mod message;
pub mod session;
pub mod shutdown;
#[cfg(test)]
mod tests;
pub mod timesync;

pub use component::Component;
pub use components::{Components, ComponentsReport, IcChoice};
pub use device::IcDevice;
pub use error::{CallError, IcError};
pub use heartbeat::Heartbeat;
pub use kvp::Kvp;
pub use shutdown::Shutdown;
pub use timesync::Timesync;
