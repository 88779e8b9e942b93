//! The host's integration components that a server answers: the request to end, and the heartbeat.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_abi::guid::Guid;
use vsc_drivers::ic::{
    self, HEARTBEAT_INTERFACE, Heartbeat, Responder, SHUTDOWN_INTERFACE, Service, Shutdown,
    ShutdownHandler, ShutdownKind, ShutdownRequest,
};

use super::Task;
use crate::machine::vmbus::Bus;

/// Whether the host has asked for the end.
#[derive(Debug, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

struct Handler(Arc<AtomicBool>);

impl ShutdownHandler for Handler {
    fn accepts(&mut self, request: &ShutdownRequest) -> bool {
        request.kind == ShutdownKind::PowerOff
    }

    fn end(&mut self, _: ShutdownRequest) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Ending {
    pub(super) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Answers whichever components the host offers.
    pub(super) fn tasks<'b>(&self, bus: &'b Bus) -> impl Iterator<Item = Task<'b>> + use<'b> {
        let shutdown = Responder::new(Shutdown::new(Handler(self.0.clone())));
        let heartbeat = Responder::new(Heartbeat::new());
        let tasks =
            [task(bus, SHUTDOWN_INTERFACE, shutdown), task(bus, HEARTBEAT_INTERFACE, heartbeat)];
        tasks.into_iter().flatten()
    }
}

fn task<'b, S: Service + 'b>(
    bus: &'b Bus,
    interface: Guid,
    mut responder: Responder<S>,
) -> Option<Task<'b>> {
    let channel = bus.offers().iter().find(|offer| offer.interface == interface)?.channel;
    Some(Box::pin(async move {
        let error = ic::serve(bus, channel, &mut responder).await;
        log::warn!("an integration component has ended: {error}");
    }))
}
