//! The units that a guest finds: which there are, which come and go.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::sense::AdditionalSense;
use thiserror::Error;

use super::disk::DiskError;
use super::scsi::cdb::Cdb;
use super::scsi::data::DataPhase;
use super::scsi::sense::Sense;
use super::scsi::{Action, capacity, inquiry};
use super::unit::{DiskReport, Unit, request_sense};
use crate::stats::lock;

/// Units of a controller, at most.
pub const MAX_LUNS: usize = 64;

/// Where a guest says a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Bus.
    pub path: u8,
    /// Target.
    pub target: u8,
    /// Logical unit.
    pub lun: u8,
}

/// A unit can't be added, changed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// There are numbers from 0 to 63 only.
    #[error("{0} is no number of a disk; give one from 0 to 63")]
    NoSuchLun(u8),
    /// Another disk has the number.
    #[error(
        "there is a disk with the number {0} already; give another, or none for the next that is free"
    )]
    Taken(u8),
    /// No disk has the number.
    #[error("there is no disk with the number {0}; add it first")]
    Absent(u8),
    /// The disk does not tell its size.
    #[error("the disk does not tell its size: {0}; look at its file")]
    Disk(DiskError),
}

/// What comes of a command to an address.
pub enum Verdict {
    /// What to do, and with which unit, if there is one.
    Action(Action, Option<Arc<Unit>>),
    /// There is nothing at this address.
    NoUnit,
}

type Slots = [Option<Arc<Unit>>; MAX_LUNS];
/// Called when units have come, gone or changed.
type Watcher = dyn Fn() + Send + Sync;

/// The units, all of target 0 on bus 0.
pub struct Controller {
    units: RwLock<Slots>,
    /// What the units that have gone did.
    gone: Mutex<Vec<DiskReport>>,
    watchers: Mutex<Vec<Weak<Watcher>>>,
}

impl Default for Controller {
    fn default() -> Self {
        let units = RwLock::new(std::array::from_fn(|_| None));
        Self { units, gone: Mutex::default(), watchers: Mutex::default() }
    }
}

impl Controller {
    /// Adds a unit before the guest can look.
    ///
    /// # Errors
    /// The number is taken, or none.
    pub fn plug(&self, lun: u8, unit: Arc<Unit>) -> Result<(), ControllerError> {
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        let slot = units.get_mut(usize::from(lun)).ok_or(ControllerError::NoSuchLun(lun))?;
        if slot.is_some() {
            return Err(ControllerError::Taken(lun));
        }
        *slot = Some(unit);
        Ok(())
    }

    /// Adds a unit while the guest runs, and has it told so.
    ///
    /// # Errors
    /// As [`Controller::plug`].
    pub fn add(&self, lun: u8, unit: Arc<Unit>) -> Result<(), ControllerError> {
        unit.attend(AdditionalSense::POWER_ON_OR_RESET);
        let others = self.present();
        self.plug(lun, unit)?;
        self.luns_changed(&others);
        Ok(())
    }

    /// Removes a unit, and has the guest told so. What the unit has begun goes on to its end.
    ///
    /// # Errors
    /// There is none with that number.
    pub fn remove(&self, lun: u8) -> Result<Arc<Unit>, ControllerError> {
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        let slot = units.get_mut(usize::from(lun)).ok_or(ControllerError::NoSuchLun(lun))?;
        let unit = slot.take().ok_or(ControllerError::Absent(lun))?;
        drop(units);
        lock(&self.gone).push(unit.report(lun));
        self.luns_changed(&self.present());
        Ok(unit)
    }

    /// Looks whether a disk has another size, and has the guest told if so.
    ///
    /// # Errors
    /// There is none with that number, or it does not tell.
    pub fn refresh(&self, lun: u8) -> Result<bool, ControllerError> {
        let unit = self.unit(lun).ok_or(ControllerError::Absent(lun))?;
        let changed = unit.refresh().map_err(ControllerError::Disk)?;
        if changed {
            self.notify();
        }
        Ok(changed)
    }

    /// Every unit was reset, or the one with this number.
    pub fn reset(&self, lun: Option<u8>) {
        let units = self.present();
        for (number, unit) in &units {
            if lun.is_none_or(|lun| lun == *number) {
                unit.attend(AdditionalSense::BUS_RESET_OCCURRED);
            }
        }
    }

    /// The unit with this number.
    pub fn unit(&self, lun: u8) -> Option<Arc<Unit>> {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        units.get(usize::from(lun))?.clone()
    }

    /// The lowest number that no unit has.
    pub fn free_lun(&self) -> Option<u8> {
        (0..MAX_LUNS as u8).find(|&lun| self.unit(lun).is_none())
    }

    /// All units, with their numbers.
    pub fn units(&self) -> Vec<(u8, Arc<Unit>)> {
        self.present()
    }

    fn present(&self) -> Vec<(u8, Arc<Unit>)> {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(units.iter()).filter_map(|(lun, unit)| Some((lun, unit.clone()?))).collect()
    }

    fn luns_changed(&self, others: &[(u8, Arc<Unit>)]) {
        for (_, unit) in others {
            unit.attend(AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED);
        }
        self.notify();
    }

    /// `watcher` is called when units come, go or change, for as long as it lives.
    pub fn watch(&self, watcher: &Arc<Watcher>) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(watcher));
    }

    fn notify(&self) {
        let watchers: Vec<_> = lock(&self.watchers).iter().filter_map(Weak::upgrade).collect();
        watchers.iter().for_each(|watcher| watcher());
    }

    /// Looks at a command to an address; as [`Unit::begin`].
    pub fn begin(
        &self,
        address: Address,
        cdb: &Cdb,
        data: DataPhase,
        parameters: Option<&[u8]>,
    ) -> Verdict {
        let ours = address.path == 0 && address.target == 0;
        let unit = self.unit(address.lun).filter(|_| ours);
        let action = match (cdb.op(), &unit) {
            (ScsiOp::REPORT_LUNS, _) => self.report_luns(cdb, ours, data),
            (_, Some(unit)) => unit.begin(cdb, data, parameters),
            (ScsiOp::INQUIRY, None) => inquiry::absent(cdb, data).unwrap_or_else(Action::Fail),
            (ScsiOp::REQUEST_SENSE, None) => request_sense(cdb, Sense::NO_UNIT, data),
            (_, None) => return Verdict::NoUnit,
        };
        Verdict::Action(action, unit)
    }

    fn report_luns(&self, cdb: &Cdb, ours: bool, data: DataPhase) -> Action {
        let units = if ours { self.present() } else { Vec::new() };
        for (_, unit) in &units {
            unit.forget(AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED);
        }
        let luns: Vec<u8> = units.iter().map(|(lun, _)| *lun).collect();
        let answer = cdb.check_control().and_then(|()| capacity::report_luns(cdb, &luns, data));
        answer.unwrap_or_else(Action::Fail)
    }

    /// What all units have done so far, those that are gone included.
    pub fn report(&self) -> Vec<DiskReport> {
        let mut reports = lock(&self.gone).clone();
        reports.extend(self.present().iter().map(|(lun, unit)| unit.report(*lun)));
        reports.sort_by_key(|report| report.lun);
        reports
    }
}

#[cfg(test)]
mod tests;
