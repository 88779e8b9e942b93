//! Where the ring gets its atomics from: `core`, or loom's models of them under `--cfg loom`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;
