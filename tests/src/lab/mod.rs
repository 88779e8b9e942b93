//! The lab: real KVM on a machine that has none, and the same jobs run natively on one that has.
//!
//! QEMU's software processor emulates AMD-V, so a stock Debian kernel under it offers a full `/dev/kvm`,
//! Hyper-V capabilities included. The lab boots that kernel with an initramfs of our own, runs a
//! [`Batch`] of jobs in it, streams what they print and brings files back. [`Executor`] runs the same
//! batch in the lab or directly, so that a runner need not know the difference.
//!
//! Top-down:
//! - [`executor`]: native or lab, chosen by what `/dev/kvm` can do
//! - [`runner`]: one batch in the lab, started again by itself if the lab stops responding
//! - [`watchdog`], [`console`]: when a lab counts as lost
//! - [`qemu`], [`parts`], [`initramfs`], [`cpio`]: what boots
//! - [`protocol`]: what passes between the runner and the agent
//! - [`agent`]: process 1 of the lab
//! - [`job`], [`process`]: what a job is, and how one runs as a local process (in the lab and natively)
//! - [`guests`]: a foreign monitor and a stock Linux, to be taken along as files
//! - [`mod@prove`]: many starts in a row, counted
//!
//! A program that uses the lab must call [`agent::become_agent_if_asked`] first thing in `main`: its own
//! executable is what the lab boots as process 1, so the two can never be of different builds.

pub mod agent;
mod builtin;
pub mod console;
pub mod cpio;
pub mod executor;
pub mod guests;
pub mod initramfs;
pub mod job;
pub mod parts;
pub mod process;
pub mod protocol;
pub mod prove;
pub mod qemu;
pub mod runner;
mod sys;
mod tsc;
pub mod watchdog;

pub use executor::{Executor, Native};
pub use guests::{
    ForeignQemu, LinuxKind, NO_GENERIC_KERNEL, foreign_qemu, linux_guest, taken_along,
};
pub use job::{
    Batch, BatchFile, BatchResult, Exit, Job, JobResult, Progress, Restart, Step, Stream,
};
pub use parts::Parts;
pub use prove::{ProveReport, prove};
pub use runner::{Lab, LabConfig};

/// What scripts beside a guest have in common, from the repository; such a script reads it as `./beside.sh`.
pub const BESIDE_SCRIPT: &str = "tests/src/lab/beside.sh";
