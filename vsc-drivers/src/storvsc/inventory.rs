//! The disks that are there, and who wants to hear of changes.
//!
//! A watcher remembers what it has told and compares it with what is there: nothing is queued, so a host that changes its disks
//! all the time fills no memory, and a slow listener sees the sum of the changes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Mutex;

use super::facts::{Geometry, Identity, Provisioning};
use super::slots::Address;
use crate::hal::Hal;
use crate::task::Bell;

/// What is known of a disk and may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) geometry: Geometry,
    pub(super) physical_block_bytes: u32,
    pub(super) read_only: bool,
    pub(super) unit_access: bool,
    pub(super) provisioning: Provisioning,
}

/// A disk, shared by its handles and the list.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) address: Address,
    pub(super) identity: Identity,
    /// Never changes.
    block_bytes: u32,
    /// What every request looks at is no lock's: all channels read it.
    blocks: AtomicU64,
    read_only: AtomicBool,
    gone: AtomicBool,
    shape: Mutex<Shape>,
    /// WRITE SAME was refused: zeros are written.
    pub(super) no_write_same: AtomicBool,
}

impl Unit {
    pub(super) fn new(address: Address, identity: Identity, shape: Shape) -> Self {
        Self {
            address,
            identity,
            block_bytes: shape.geometry.block_bytes,
            blocks: AtomicU64::new(shape.geometry.blocks),
            read_only: AtomicBool::new(shape.read_only),
            gone: AtomicBool::new(false),
            shape: Mutex::new(shape),
            no_write_same: AtomicBool::new(false),
        }
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry { block_bytes: self.block_bytes, blocks: self.blocks.load(Ordering::Relaxed) }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Everything, for what is not done all the time.
    pub(super) fn shape(&self) -> Shape {
        *self.shape.lock()
    }

    fn reshape(&self, shape: Shape) {
        *self.shape.lock() = shape;
        self.blocks.store(shape.geometry.blocks, Ordering::Relaxed);
        self.read_only.store(shape.read_only, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether it is another disk than one with these names and blocks.
    fn differs(&self, identity: &Identity, shape: &Shape) -> bool {
        self.identity != *identity || self.block_bytes != shape.geometry.block_bytes
    }
}

/// What a look at a unit has found.
#[derive(Debug)]
pub(super) enum Found {
    /// A disk.
    Disk(Identity, Shape),
    /// The unit could not be looked at: what is known of it stays.
    Unclear,
}

/// The disks.
pub(super) struct Inventory {
    units: Mutex<BTreeMap<Address, Arc<Unit>>>,
    bell: Bell,
}

impl Inventory {
    pub(super) const fn new() -> Self {
        Self { units: Mutex::new(BTreeMap::new()), bell: Bell::new() }
    }

    /// All disks.
    pub(super) fn units(&self) -> Vec<Arc<Unit>> {
        self.units.lock().values().cloned().collect()
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Makes the list what was found: units that were not found are gone.
    pub(super) fn update(&self, hal: &impl Hal, mut found: BTreeMap<Address, Found>) {
        let mut old = core::mem::take(&mut *self.units.lock());
        let mut new = BTreeMap::new();
        for (address, unit) in &mut old {
            match found.remove(address) {
                Some(Found::Disk(identity, shape)) if unit.differs(&identity, &shape) => {
                    unit.gone.store(true, Ordering::Release);
                    new.insert(*address, Arc::new(Unit::new(*address, identity, shape)));
                }
                Some(Found::Disk(_, shape)) => {
                    unit.reshape(shape);
                    new.insert(*address, unit.clone());
                }
                Some(Found::Unclear) => {
                    new.insert(*address, unit.clone());
                }
                None => unit.gone.store(true, Ordering::Release),
            }
        }
        for (address, found) in found {
            if let Found::Disk(identity, shape) = found {
                new.insert(address, Arc::new(Unit::new(address, identity, shape)));
            }
        }
        *self.units.lock() = new;
        self.bell.ring(hal);
    }
}

/// What changed, seen from a watcher.
#[derive(Debug)]
pub(super) enum UnitChange {
    Added(Arc<Unit>),
    Removed(Arc<Unit>),
    /// Size or write protection; as it was, and as it is.
    Reshaped(Arc<Unit>, Shape, Shape),
}

/// What a watcher has told so far.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<Address, (Arc<Unit>, Shape)>);

impl Seen {
    /// The next difference between what was told and what is there.
    pub(super) fn next_change(&mut self, inventory: &Inventory) -> Option<UnitChange> {
        let units = inventory.units();
        let is_there = |unit: &Arc<Unit>| units.iter().any(|other| Arc::ptr_eq(other, unit));
        let gone = self.0.iter().find(|(_, (unit, _))| !is_there(unit)).map(|(at, _)| *at);
        if let Some((unit, _)) = gone.and_then(|address| self.0.remove(&address)) {
            return Some(UnitChange::Removed(unit));
        }
        units.into_iter().find_map(|unit| {
            let shape = unit.shape();
            match self.0.insert(unit.address, (unit.clone(), shape)) {
                None => Some(UnitChange::Added(unit)),
                Some((_, before)) if before != shape => {
                    Some(UnitChange::Reshaped(unit, before, shape))
                }
                Some(_) => None,
            }
        })
    }
}
