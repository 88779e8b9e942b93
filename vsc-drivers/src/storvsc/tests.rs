//! The driver against a scripted host.

mod changes;
mod channels;
mod counting;
mod dropping;
mod errors;
mod hostile;
mod io;
mod limits;
mod machine;
mod starting;
mod target;
mod threads;
