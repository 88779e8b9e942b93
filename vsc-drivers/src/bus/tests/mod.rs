//! The bus against a host that behaves, and one that does not.

mod connection;
mod golden;
mod hostile;
mod offers;
mod parsing;
mod posting;
mod rescind;
