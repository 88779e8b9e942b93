//! The unikernel: boots, brings up all processors, then lists or runs tests, or studies spin locks.
//!
//! The command line (`docs/interfaces.md`) says which. What needs no ring 0 is in the library beside this
//! program and tested on the host.

#![no_std]
#![no_main]

extern crate alloc;

mod bus;
mod conformance;
mod drives;
mod echo;
mod guest_tests;
mod io_bench;
mod machine;
mod run;
mod scaling;
mod serve;
mod soak;
mod study;
mod tcpip;
