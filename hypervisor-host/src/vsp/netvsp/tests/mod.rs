//! The card against a guest's end of the bus in this process, whose messages are put together by hand.

mod channels;
mod data;
mod driver;
mod hostile;
mod setup;
