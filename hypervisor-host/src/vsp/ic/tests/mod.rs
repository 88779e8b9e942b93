//! Components against a guest that is scripted byte for byte, in the way of Linux's `hv_util.c`.

pub(super) mod guest;
mod heartbeat;
mod negotiation;
mod on_a_bus;
mod shutdown;
mod timesync;
