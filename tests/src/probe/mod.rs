//! What runs inside a stock Linux guest, and beside one in the lab, to see whether data survive a device:
//! the program `guest-probe`.
//!
//! - [`pattern`]: bytes that anyone can tell from their place
//! - [`disk`]: fills, checks and works at random on a block device, past the page cache
//! - [`mod@bench`]: disk and network work between marks
//! - [`cases`]: conformance cases for its drivers
//! - [`mod@tray`]: a CD-ROM drive's tray
//! - [`net`]: a TCP peer that sends and takes such bytes
//!
//! Each subcommand prints one line that begins with `probe: ok` or `probe: error`, and ends with code 0 or 1.

pub mod bench;
pub mod cases;
pub mod disk;
pub mod net;
pub mod pattern;
pub mod tray;
