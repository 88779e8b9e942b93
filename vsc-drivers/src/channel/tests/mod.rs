//! Channels between the guest's end and the fake host's.

mod memory;
mod opening;
mod packets;
mod room;
mod signals;
