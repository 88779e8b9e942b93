//! What a network card is plugged into: back ends, and what is done to frames on the way.
//!
//! - [`backend`]: the trait; [`open`] makes one from [`options`]
//! - [`tap`], [`stream`], [`user`], [`switch`], [`memory`]: the back ends; [`pcap`] records any of them
//! - [`frame`], [`headers`], [`checksum`], [`segment`], [`offload`]: what a card does to frames: checksums, cutting large
//!   segments, tags
//! - [`toeplitz`]: the hash by which received frames are spread on queues
//! - [`counters`]: what a card counts; [`mac`]: its address; [`card`]: what all cards have in common
//!
//! Nothing here knows of a bus; [`netvsp`](crate::vsp::netvsp) and [`tulip`](crate::emulated::tulip) are the cards.

pub mod backend;
pub mod card;
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
