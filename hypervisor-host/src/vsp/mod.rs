//! Providers of synthetic devices, by the names of their protocols.
//!
//! - [`ic`]: the integration components
//! - [`netvsp`]: a network card
//! - [`storvsp`]: a controller with disks

pub mod ic;
pub mod netvsp;
pub mod storvsp;
