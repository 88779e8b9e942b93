//! Providers of synthetic devices, by the names of their protocols.
//!
//! - [`ic`]: the integration components

pub mod ic;
