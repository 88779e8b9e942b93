//! Services against a host that is scripted byte for byte, in the way of OpenVMM's `hyperv_ic`.

mod host;
mod kvp;
mod negotiation;
mod on_a_channel;
mod services;
