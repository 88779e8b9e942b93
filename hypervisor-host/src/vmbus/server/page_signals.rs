//! Signals of guests before version 1.1: one connection for all, and bits in the interrupt page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use crate::stats::lock;
use crate::vmbus::interrupt_page::InterruptPage;

/// The page, and what its bits stand for.
pub(super) struct PageSignals {
    page: Arc<InterruptPage>,
    channels: Mutex<BTreeMap<u32, Arc<EventFd>>>,
}

impl PageSignals {
    pub(super) fn new(page: InterruptPage) -> Self {
        Self { page: Arc::new(page), channels: Mutex::default() }
    }

    pub(super) fn page(&self) -> &Arc<InterruptPage> {
        &self.page
    }

    pub(super) fn add(&self, channel: u32, event: Arc<EventFd>) {
        lock(&self.channels).insert(channel, event);
    }

    pub(super) fn remove(&self, channel: u32) {
        lock(&self.channels).remove(&channel);
    }

    /// The guest has signalled. On the VP's thread.
    pub(super) fn deliver(&self) {
        let channels = lock(&self.channels);
        for channel in self.page.take_guest_signals() {
            if let Some(event) = channels.get(&channel) {
                // Fails only if the counter overflows, and then its reader knows already.
                let _ = event.write(1);
            }
        }
    }
}
