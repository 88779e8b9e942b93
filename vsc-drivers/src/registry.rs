//! Plug and play: which driver starts for what the host offers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::future::poll_fn;
use core::pin::{Pin, pin};

use hv_abi::guid::Guid;

use crate::bus::{Change, Offer, Vmbus};
use crate::hal::Hal;

/// A driver's task for one device. It ends when the device is gone, or does not work.
pub type DriverTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What serves the devices of one kind.
pub trait Driver<H: Hal>: Send + Sync {
    /// Begins to serve a device, of which this is the primary channel.
    ///
    /// The task sees by the errors of its channel that the host took the device back.
    fn start(&self, bus: &Vmbus<H>, offer: Offer) -> DriverTask;
}

impl<H: Hal, F: Fn(&Vmbus<H>, Offer) -> DriverTask + Send + Sync> Driver<H> for F {
    fn start(&self, bus: &Vmbus<H>, offer: Offer) -> DriverTask {
        self(bus, offer)
    }
}

/// Which driver starts for which interface type, at boot and when something is added later.
///
/// What has no driver stays in [`Vmbus::offers`], and is left alone.
pub struct Registry<H: Hal> {
    drivers: Vec<(Guid, Box<dyn Driver<H>>)>,
}

impl<H: Hal> Registry<H> {
    /// No driver.
    pub const fn new() -> Self {
        Self { drivers: Vec::new() }
    }

    /// One driver more. Of several for the same type, the first is taken.
    #[must_use]
    pub fn with(mut self, interface: Guid, driver: impl Driver<H> + 'static) -> Self {
        self.drivers.push((interface, Box::new(driver)));
        self
    }

    /// The driver of an interface type.
    pub fn driver(&self, interface: Guid) -> Option<&dyn Driver<H>> {
        let (_, driver) = self.drivers.iter().find(|(own, _)| *own == interface)?;
        Some(&**driver)
    }

    /// What the host offers at the moment and no driver is for.
    pub fn unknown(&self, bus: &Vmbus<H>) -> Vec<Offer> {
        let mut offers = bus.offers();
        offers.retain(|offer| self.driver(offer.interface).is_none());
        offers
    }

    /// Waits for something that a driver is for, and starts it. Takes the bus's [changes](Vmbus::next_change).
    ///
    /// For a kernel with an executor, which calls this for ever and spawns the tasks.
    pub async fn next(&self, bus: &Vmbus<H>) -> DriverTask {
        loop {
            if let Change::Offered(offer) = bus.next_change().await
                && offer.sub_channel == 0
                && let Some(driver) = self.driver(offer.interface)
            {
                return driver.start(bus, offer);
            }
        }
    }

    /// Starts drivers for ever, and polls their tasks, for a kernel without an executor.
    pub async fn run(&self, bus: &Vmbus<H>) -> Infallible {
        let mut tasks: Vec<DriverTask> = Vec::new();
        loop {
            let mut next = pin!(self.next(bus));
            let started = poll_fn(|context| {
                tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
                next.as_mut().poll(context)
            });
            let task = started.await;
            tasks.push(task);
        }
    }
}

impl<H: Hal> Default for Registry<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hal> fmt::Debug for Registry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = self.drivers.iter().map(|(interface, _)| interface);
        f.debug_list().entries(types).finish()
    }
}

#[cfg(test)]
mod tests;
