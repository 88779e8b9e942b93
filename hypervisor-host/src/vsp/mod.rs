//! Providers of synthetic devices, by the names of their protocols.
//!
//! - [`ic`]: the integration components
//! - [`netvsp`]: network cards

pub mod ic;
pub mod netvsp;
