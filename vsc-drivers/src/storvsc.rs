//! Disks: the driver of Hyper-V's synthetic SCSI controllers, and of the accelerated path of emulated IDE disks.
//!
//! **Theory.** A disk takes SCSI commands in packets ([`hv_abi::storvsp`]), whose data lies in pages of the guest. A controller has up to 64 disks and
//! one or more channels, all of which lead to all disks.
//!
//! **Practice.** [`StorVsc::start`] begins, [`StorVsc::run`] is the driver's task: poll it for ever, or each channel's on a processor of its own
//! ([`StorVsc::run_channel`] and [`StorVsc::run_control`]). [`StorVsc::disks`] gives [`Disk`]s, [`StorVsc::watch`] tells of changes.
//!
//! **Memory.** A host writes into a read's memory until it has answered, whatever became of the future that asked. So a future never holds the memory:
//! it is either lent ([`IoBuffer`], nothing is copied) or the driver's, and copied. The request's slot keeps it until the host has answered. If that never
//! happens, the request ends with [`DiskErrorKind::TimedOut`] after a reset, and the memory stays where it is until the controller is taken away.
//!
//! | module | what for |
//! | --- | --- |
//! | `buffer`, `pool`, `pieces` | lent memory, and how it becomes requests |
//! | `slots`, `exchange`, `queue` | one channel: its table of requests, their futures, its task |
//! | `packet`, `command`, `sense`, `facts` | bytes of requests and answers, and what these mean |
//! | `controller`, `transfer`, `recover` | commands with their repetitions; blocks; time limits and resets |
//! | `start`, `scan`, `inventory`, `watch` | the protocol's beginning; which disks there are |
//! | `disk`, `block` | what a kernel uses |

mod block;
mod buffer;
mod command;
mod controller;
mod counts;
mod disk;
mod error;
mod exchange;
mod facts;
mod inventory;
mod join;
mod notices;
mod options;
mod packet;
mod pieces;
mod pool;
mod queue;
mod recover;
mod scan;
mod sense;
mod slots;
mod start;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

pub use block::{BlockDevice, BlockingDisk};
pub use buffer::IoBuffer;
pub use counts::StorCounts;
pub use disk::Disk;
pub use error::{DiskError, DiskErrorKind, Failed, StartError};
pub use facts::{Geometry, Identity, Provisioning};
pub use options::{Doorbell, StorOptions};
pub use sense::Sense;
pub use slots::Address;
pub use watch::{DiskChange, DiskWatcher};

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hv_abi::guid::Guid;
use hv_abi::storvsp::{IDE_GUID, SCSI_GUID, StorvspVersion};

use crate::bus::{ChannelError, ChannelId, Vmbus};
use crate::hal::Hal;
use crate::task::{sleep_until, within};
use controller::Controller;
use notices::Notices;
use queue::Queue;

/// The interface types that the driver is for.
pub const INTERFACES: [Guid; 2] = [SCSI_GUID, IDE_GUID];

/// A storage controller. Clones are the same controller.
///
/// Dropping the last handle and the last [`Disk`] closes its channels. Memory that the host has at that moment is never freed; [`StorVsc::stop`] gets it back.
pub struct StorVsc<H: Hal> {
    controller: Arc<Controller<H>>,
}

impl<H: Hal> Clone for StorVsc<H> {
    fn clone(&self) -> Self {
        Self { controller: self.controller.clone() }
    }
}

impl<H: Hal> StorVsc<H> {
    /// Starts the controller whose primary channel is `channel`, and looks for its disks. Needs the bus's task.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        bus: &Vmbus<H>,
        channel: ChannelId,
        options: StorOptions,
    ) -> Result<Self, StartError> {
        let notices = Arc::new(Notices::new());
        let primary = start::open(bus, channel, &options, 0, &notices).await?;
        let place = start::place(primary.channel().offer());
        let agreed = {
            let conversation = start::negotiate(&primary, &options);
            join::beside(conversation, Vec::from([join::task(primary.run())])).await?
        };
        let others = {
            let opening = start::sub_channels(bus, &primary, &options, &agreed, &notices);
            join::beside(opening, Vec::from([join::task(primary.run())])).await
        };
        let queues = core::iter::once(primary).chain(others).collect();
        let controller = start::controller(bus, queues, options, &agreed, notices, place)?;
        let storvsc = Self { controller: Arc::new(controller) };
        let found = join::beside(storvsc.controller.rescan(), storvsc.tasks()).await;
        match found {
            Err(error) if error.kind == DiskErrorKind::Gone => Err(StartError::Ended),
            // The list is empty, and can be asked for again.
            _ => Ok(storvsc),
        }
    }

    /// The driver's task: all of [`run_channel`](Self::run_channel) and [`run_control`](Self::run_control). Ends with the primary channel;
    /// all requests have then ended. Needs the bus's task for that.
    pub async fn run(&self) -> ChannelError {
        let Some(primary) = self.controller.queues.first() else { return ChannelError::NoChannel };
        let error = join::beside(primary.run(), self.other_tasks()).await;
        // A host that takes a device back takes all of its channels back.
        let others = self.controller.queues.iter().skip(1);
        let ends = join::for_each(others.clone().map(Queue::run), usize::MAX, drop);
        let limit = self.controller.options.reset_limit_100ns;
        if within(&self.controller.hal, limit, ends).await.is_err() {
            join::for_each(others.map(Queue::shut), usize::MAX, drop).await;
        }
        // The disks are gone with the channels.
        let _ = self.controller.rescan().await;
        error
    }

    /// The task of the channel numbered `channel`, 0 being the primary; at once over if there is none. For kernels that poll each on the processor that
    /// gets its signals.
    pub async fn run_channel(&self, channel: u16) -> ChannelError {
        match self.controller.queues.get(usize::from(channel)) {
            Some(queue) => queue.run().await,
            None => ChannelError::NoChannel,
        }
    }

    /// The task that sees to changes of disks and to requests without answers. Never ends.
    pub async fn run_control(&self) {
        let recovery = self.controller.keep_recovering();
        join::beside(recovery, Vec::from([join::task(self.keep_scanning())])).await;
    }

    async fn keep_scanning(&self) {
        loop {
            self.controller.notices.disks.wait(&self.controller.hal).await;
            // Nothing comes of it if the host does not answer: then the list stays, until the next notice.
            let _ = self.controller.rescan().await;
        }
    }

    fn other_tasks(&self) -> Vec<join::Task<'_>> {
        let queues = self.controller.queues.iter().skip(1).map(|queue| join::task(queue.run()));
        let control = core::iter::once(join::task(self.run_control()));
        queues.chain(control).collect()
    }

    fn tasks(&self) -> Vec<join::Task<'_>> {
        let queues = self.controller.queues.iter().map(|queue| join::task(queue.run()));
        let control = core::iter::once(join::task(self.run_control()));
        queues.chain(control).collect()
    }

    /// The disks that are there.
    pub fn disks(&self) -> Vec<Disk<H>> {
        let units = self.controller.inventory.units();
        units.into_iter().map(|unit| Disk::new(self.controller.clone(), unit)).collect()
    }

    /// The disk with that number on a SCSI controller.
    pub fn disk(&self, lun: u8) -> Option<Disk<H>> {
        self.disks().into_iter().find(|disk| disk.address().lun == lun)
    }

    /// Tells of disks that come, go and change.
    pub fn watch(&self) -> DiskWatcher<H> {
        DiskWatcher::new(self.controller.clone())
    }

    /// Looks for disks, and at each of them. The host says when that is needed, and then the driver does it by itself.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; the list of disks stays, or is empty if the controller is gone.
    pub async fn rescan(&self) -> Result<(), DiskError> {
        self.controller.rescan().await
    }

    /// The version that was agreed on.
    pub fn version(&self) -> StorvspVersion {
        self.controller.version
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.controller.queues.len()
    }

    /// What happened so far on all channels.
    pub fn counts(&self) -> StorCounts {
        let each = self.controller.queues.iter().map(|queue| queue.counters.snapshot());
        each.fold(StorCounts::default(), |sum, counts| sum + counts)
    }

    /// Requests that the host has, those included that nobody waits for any longer.
    pub fn in_flight(&self) -> usize {
        self.controller.queues.iter().map(|queue| queue.with(|slots| slots.in_flight())).sum()
    }

    /// Ends the controller: waits until the host has nothing any more, but not longer than `limit_100ns`, and closes the channels. Needs the
    /// driver's task, which then ends, and the bus's. The device can be started again afterwards.
    ///
    /// # Errors
    ///
    /// [`ChannelError`] of a channel that the host did not say to have closed. What it may still write to is never freed.
    pub async fn stop(&self, limit_100ns: u64) -> Result<(), ChannelError> {
        self.drained(limit_100ns).await;
        let mut result = Ok(());
        // The primary channel last, as Linux does (`vmbus_disconnect_ring`).
        for queue in self.controller.queues.iter().rev() {
            let closed = queue.channel().close().await;
            // A host answers only when the device has let go of the guest's memory.
            queue.end(closed.is_ok());
            result = result.and(closed);
        }
        result
    }

    /// Waits until the host has nothing any more, or `limit_100ns` is over; whether it has nothing.
    pub async fn drained(&self, limit_100ns: u64) -> bool {
        let hal = &self.controller.hal;
        let end = hal.now_100ns().saturating_add(limit_100ns);
        let step = crate::SECOND_100NS / 1000;
        while self.in_flight() > 0 && hal.now_100ns() < end {
            sleep_until(hal, hal.now_100ns().saturating_add(step)).await;
        }
        self.in_flight() == 0
    }
}

impl<H: Hal> fmt::Debug for StorVsc<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorVsc")
            .field("version", &self.controller.version)
            .field("channels", &self.channels())
            .finish_non_exhaustive()
    }
}
