//! What a network card is plugged into: back ends, and what is done to frames on the way.
//!
//! - [`backend`]: the trait; [`open`] makes one from [`options`]
//! - [`tap`], [`stream`], [`user`], [`switch`], [`memory`]: the back ends; [`pcap`] records any of them
//! - [`frame`], [`headers`], [`checksum`], [`segment`], [`offload`]: what a card does to frames: checksums, cutting large
//!   segments, tags
//! - [`toeplitz`]: the hash by which received frames are spread on queues
//! - [`counters`]: what a card counts; [`mac`]: its address
//!
//! Nothing here knows of VMBus; [`netvsp`](crate::vsp::netvsp) is the card.

pub mod backend;
pub mod checksum;
pub mod counters;
pub mod frame;
pub mod headers;
pub mod mac;
pub mod memory;
pub mod offload;
pub mod open;
pub mod options;
pub mod pcap;
mod queue;
pub mod segment;
pub mod stream;
pub mod switch;
pub mod tap;
pub mod toeplitz;
pub mod user;
mod vnet;
