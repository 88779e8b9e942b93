//! What tests and benches that measure have in common. Each uses what it needs.

#![allow(dead_code, reason = "not everybody uses everything")]

pub(crate) mod steps;
pub(crate) mod user_cpu;
