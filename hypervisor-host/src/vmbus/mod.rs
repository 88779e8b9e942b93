//! The host's end of VMBus: the bus itself, and what providers of synthetic devices use.
//!
//! A provider implements [`VmbusDevice`] and is given to [`VmbusServer::add`]. When a guest opens a channel of it, a thread
//! calls [`VmbusDevice::serve`] with a [`HostChannel`], by which it exchanges packets with the guest. Memory that the guest
//! lends, for one packet or for longer, comes as [`GuestRanges`] and [`Gpadl`]s, checked.
//!
//! The bus talks to the guest through [`Synic`](crate::hyperv::synic::Synic) alone: messages set channels up and take them
//! down (the modules of `server`), signals say that there is something in a ring (`signals`).

mod channel;
mod device;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gpadl;
mod interrupt_page;
mod ranges;
mod server;
mod signals;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use channel::{ChannelError, HostBatch, HostChannel, Wake, Waker};
pub use device::{DeviceOffer, ServeError, VmbusDevice};
pub use gpadl::Gpadl;
pub use ranges::{GuestRanges, GuestSlice, RangesError};
pub use server::{AddError, DeviceId, ServerOptions, StartError, VmbusServer};
pub use stats::{ChannelReport, TrafficReport, VmbusReport};
