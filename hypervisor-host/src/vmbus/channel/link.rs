//! What the bus and an open channel share: signals both ways, and the news that it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vmbus_ring::Signal;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use super::Wake;
use crate::hyperv::synic::Synic;
use crate::stats::lock;
use crate::vmbus::signals::GuestSignal;
use crate::vmbus::stats::ChannelStats;

/// The state of an open channel that more than one thread looks at.
pub(in crate::vmbus) struct Link {
    /// Written by the guest's signals.
    guest: Arc<EventFd>,
    /// Written by us.
    wake: EventFd,
    closing: AtomicBool,
    woken: AtomicBool,
    /// The guest knows that the channel is open.
    started: AtomicBool,
    synic: Arc<Synic>,
    signal: Mutex<GuestSignal>,
    stats: Arc<ChannelStats>,
}

impl Link {
    pub(in crate::vmbus) fn new(
        synic: Arc<Synic>,
        signal: GuestSignal,
        stats: Arc<ChannelStats>,
    ) -> Result<Self, errno::Error> {
        Ok(Self {
            guest: Arc::new(EventFd::new(libc::EFD_NONBLOCK)?),
            wake: EventFd::new(libc::EFD_NONBLOCK)?,
            closing: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            started: AtomicBool::new(false),
            synic,
            signal: Mutex::new(signal),
            stats,
        })
    }

    /// What the guest's signals write.
    pub(in crate::vmbus) fn guest_event(&self) -> &Arc<EventFd> {
        &self.guest
    }

    pub(super) fn wake_event(&self) -> &EventFd {
        &self.wake
    }

    pub(in crate::vmbus) fn stats(&self) -> &ChannelStats {
        &self.stats
    }

    /// The channel is over.
    pub(in crate::vmbus) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// The guest knows that the channel is open.
    pub(in crate::vmbus) fn start(&self) {
        self.started.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(in crate::vmbus) fn is_started(&self) -> bool {
        self.started.load(Ordering::SeqCst)
    }

    pub(in crate::vmbus) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.ring();
        }
    }

    fn ring(&self) {
        // Fails only if the counter overflows, and then its reader knows already.
        let _ = self.wake.write(1);
    }

    /// What needs no waiting for.
    pub(super) fn pending(&self) -> Option<Wake> {
        if self.is_closing() {
            Some(Wake::Closed)
        } else if self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel) {
            Some(Wake::Woken)
        } else {
            None
        }
    }

    /// The guest's signals are read back.
    pub(super) fn guest_signalled(&self) {
        if let Ok(count) = self.guest.read() {
            self.stats.signals_received.add(count);
        }
    }

    /// Our own signals are read back.
    pub(super) fn wakes_seen(&self) {
        // Fails only if there are none.
        let _ = self.wake.read();
    }

    pub(super) fn received(&self, bytes: u64) {
        self.stats.packets_received.add(1);
        self.stats.bytes_received.add(bytes);
    }

    pub(super) fn sent(&self, packets: u64, bytes: u64) {
        self.stats.packets_sent.add(packets);
        self.stats.bytes_sent.add(bytes);
    }

    /// Signals the guest if it wants to know of packets.
    pub(super) fn signal_packets(&self, signal: Signal) {
        if !signal.needed() || !self.signal() {
            self.stats.signals_suppressed.add(1);
        }
    }

    /// Signals the guest if it waits for room.
    pub(super) fn signal_room(&self, signal: Signal) {
        if signal.needed() {
            self.signal();
        }
    }

    /// Tells whether the guest was interrupted.
    fn signal(&self) -> bool {
        // Held, so that a channel that moves to another processor doesn't interrupt the old one afterwards.
        let signal = lock(&self.signal);
        let interrupted = !self.is_closing() && signal.send(&self.synic);
        self.stats.signals_sent.add(interrupted.into());
        interrupted
    }

    /// The guest is signalled another way from now on.
    pub(in crate::vmbus) fn redirect(&self, signal: GuestSignal) {
        *lock(&self.signal) = signal;
    }
}
