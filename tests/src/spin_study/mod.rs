//! `make study`: what happens to spin locks when virtual processors are descheduled, and how a guest scales.
//!
//! - [`plan`]: the design: which measurements, in which boots, in which order
//! - [`record`]: one measurement, as guest and host saw it; the table `study.csv`
//! - [`findings`]: medians, ratios within a boot, whether the aim is reached
//! - [`scaling`]: the same work in the guest and on the bare machine
//! - [`data`]: all of it, as `study.json`
//! - [`tables`], [`chart`], [`drawings`], [`page`], [`docs`]: for people

pub mod chart;
pub mod data;
pub mod docs;
pub mod drawings;
pub mod findings;
pub mod page;
pub mod plan;
pub mod record;
mod run;
pub mod scaling;
pub mod tables;

pub use run::{Options, add_small_scaling, judge_small_scaling, run};
