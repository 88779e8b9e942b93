//! A KVM host with a Hyper-V interface of its own: the library behind the `hypervisor-host` binary.

#![deny(missing_docs)]

pub mod acpi;
pub mod layout;
pub mod loader;
