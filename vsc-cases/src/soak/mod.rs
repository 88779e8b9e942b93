//! Disks and networks used at random for as long as one likes, every byte of it checked.
//!
//! - [`disk`]: random reads and writes, many at a time, against a model of what each block has
//! - [`echo`]: frames from one card to another and back
//! - `model`: what each block has; [`mod@block`]: blocks and frames that say what they are; [`random`]: numbers that can be had again

pub mod block;
pub mod disk;
pub mod echo;
mod model;
pub mod random;
#[cfg(test)]
mod tests;
