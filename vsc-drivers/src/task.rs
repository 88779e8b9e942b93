//! Waiting without an executor: a bell for interrupt handlers, time limits, and a way to block.
//!
//! All of the crate's futures are ordinary ones. Interrupt handlers wake wakers by reference only; they never allocate, clone or
//! drop one. **A waker's `wake_by_ref` runs in interrupt context**, so an executor's must be fit for that.

mod bell;
mod beside;
mod block_on;
mod both;
#[cfg(test)]
mod tests;
mod time;

pub use bell::Bell;
pub use beside::{all, beside};
pub use block_on::block_on;
pub use both::both;
pub use time::{Elapsed, by, sleep_until, within};
