//! A controller without a machine, whose disks do everything at once: for unit tests, the in-process machine and fuzzing.

use super::station::{AtOnce, Station};
use super::{DRIVES, IdeController, IdeDrive};
use crate::emulated::pci::{AddError, DeviceContext, testing::TestBus};

/// The slot of a controller on a bus for tests; it is function 1 there.
pub const SLOT: u8 = 1;

impl IdeController {
    /// A controller that needs no threads: an access ends when everything that follows from it is done.
    pub fn at_once(context: &DeviceContext, drives: [Option<IdeDrive>; DRIVES]) -> Option<Self> {
        let station = |channel| Ok(Station::with_worker(channel, Box::new(AtOnce::default())));
        Self::build(context, drives, station).ok()
    }
}

/// A bus with such a controller.
///
/// # Errors
/// There is no place for it, which can't be.
pub fn bus(ram_bytes: usize, drives: [Option<IdeDrive>; DRIVES]) -> Result<TestBus, AddError> {
    let mut bus = TestBus::new(ram_bytes).map_err(|_| AddError::NoRoom)?;
    let controller = IdeController::at_once(&bus.context(SLOT), drives).ok_or(AddError::NoRoom)?;
    bus.add(SLOT, 1, controller)?;
    Ok(bus)
}
