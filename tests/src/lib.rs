//! Everything that needs two crates or a virtual machine at once.
//!
//! - [`image`]: finishes the linked kernel and lists its tests
//! - [`lab`]: real KVM on a machine that has none
//! - [`vmm`], [`guest_tests`], [`events`]: start a guest on some VMM, read what it says, judge it
//! - [`conformance`]: the conformance matrix and its reports
//! - [`foreign`]: a test kernel such as people bring, which knows nothing of ours
//! - [`study`], [`plot`]: what `make run` and `make test` measure of spin waits
//! - [`spin_study`]: the spin-wait study and how guests scale (`make study`)
//! - [`compare`]: the same work by emulated and synthetic devices (`make compare`)
//! - [`io_work`]: disk and network work, as guests tell of it
//! - [`docs`]: figures in the documentation, written by the commands that measure them
//! - [`soak`]: random I/O with every byte checked (`make soak`)
//! - [`costs`]: what free locks and the clock cost on this machine (`make costs`)
//! - [`demo`]: our kernel serves files over HTTP, curl fetches them (`make demo`)
//! - [`probe`]: what runs inside a Linux guest to see whether data survive a device
//! - [`anywhere`]: our host's command line, natively or in the lab
//! - [`html`]: what pages have in common; [`iso`], [`sha256`]: images of CD-ROMs, checksums
//! - [`outcome`]: results as text, JUnit XML and JSON
//!
//! The program `enl` (`src/bin/enl.rs`) puts them together for `make run` and `make test`.

pub mod anywhere;
pub mod artifacts;
pub mod bench;
pub mod compare;
pub mod conformance;
pub mod costs;
pub mod demo;
pub mod docs;
pub mod events;
pub mod foreign;
pub mod guest_tests;
pub mod html;
pub mod image;
pub mod io_work;
pub mod iso;
pub mod lab;
pub mod main_job;
pub mod outcome;
pub mod plot;
pub mod probe;
pub mod progress;
pub mod sha256;
pub mod soak;
pub mod spin_study;
pub mod study;
pub mod suites;
pub mod vmm;
