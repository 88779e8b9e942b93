//! The driver against a scripted host.
