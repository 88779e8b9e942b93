//! Hearing of disks that come, go and change.

use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use super::controller::Controller;
use super::disk::Disk;
use super::facts::Geometry;
use super::inventory::{Seen, UnitChange};
use crate::hal::Hal;

/// What changed.
#[derive(Debug)]
pub enum DiskChange<H: Hal> {
    /// A disk is there: one of the first, or a later one.
    Added(Disk<H>),
    /// A disk is no longer there.
    Removed(Disk<H>),
    /// A disk has another size, which it tells itself; here is the one it had.
    Resized(Disk<H>, Geometry),
    /// Write protection, or a limit, is another.
    Changed(Disk<H>),
}

/// Tells of changes. Each watcher has its own view, which begins with no disks: the first changes are the disks that are there.
pub struct DiskWatcher<H: Hal> {
    controller: Arc<Controller<H>>,
    seen: Seen,
}

impl<H: Hal> DiskWatcher<H> {
    pub(super) fn new(controller: Arc<Controller<H>>) -> Self {
        Self { controller, seen: Seen::default() }
    }

    /// The next change. Several changes of the same disk may be told as one.
    pub async fn next(&mut self) -> DiskChange<H> {
        poll_fn(|context| {
            let controller = &self.controller;
            controller.inventory.bell().listen(&controller.hal, context.waker());
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A change, if there is one now.
    pub fn try_next(&mut self) -> Option<DiskChange<H>> {
        let change = self.seen.next_change(&self.controller.inventory)?;
        let disk = |unit| Disk::new(self.controller.clone(), unit);
        Some(match change {
            UnitChange::Added(unit) => DiskChange::Added(disk(unit)),
            UnitChange::Removed(unit) => DiskChange::Removed(disk(unit)),
            UnitChange::Reshaped(unit, before, now) if before.geometry != now.geometry => {
                DiskChange::Resized(disk(unit), before.geometry)
            }
            UnitChange::Reshaped(unit, ..) => DiskChange::Changed(disk(unit)),
        })
    }
}

impl<H: Hal> fmt::Debug for DiskWatcher<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskWatcher").finish_non_exhaustive()
    }
}
