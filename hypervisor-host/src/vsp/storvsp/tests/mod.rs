//! The controller against a guest in this process, over the bus itself.

mod beginning;
mod changes;
mod guest;
mod hostile;
mod requests;
