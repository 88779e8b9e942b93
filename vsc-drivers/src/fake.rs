//! A machine for tests: memory, a clock, and a host that speaks its side of the bus, well or badly.
//!
//! Everything happens in the process, most of it in the call that causes it: the host answers a message before the
//! call returns, as an interrupt would. Time is virtual: when [`block_on`](crate::block_on) has nothing to do, the clock
//! jumps to the next deadline, so that a test of a time limit takes no time; a test in which nothing will ever happen panics.
//!
//! - [`FakeHal`]: the kernel's side
//! - [`FakeHost`]: the host's; [`FakeOffer`] what it offers, [`Mischief`] how it misbehaves
//! - [`HostEnd`]: the host's end of an open channel, for whoever plays a device; [`HostPacket`] what comes out of it
//!
//! The host checks the guest, too: whatever a real host would not put up with (memory freed that the host still has, a
//! channel closed twice, …) panics.
//!
//! ```
//! use hv_abi::guid::Guid;
//! use vsc_drivers::fake::{FakeHost, FakeOffer};
//! use vsc_drivers::task::{block_on, both};
//! use vsc_drivers::{BusOptions, OpenParams};
//! use vmbus_ring::OutgoingPacket;
//!
//! let host = FakeHost::new();
//! let channel = host.offer(FakeOffer::new(Guid::new(1, 2, 3, 4)));
//! let bus = host.bus(BusOptions::default());
//!
//! // The device: answers each packet with the same bytes.
//! let device = async {
//!     let end = host.opened(channel).await;
//!     while let Some(packet) = end.receive().await {
//!         end.complete(&packet, &packet.payload);
//!     }
//! };
//!
//! // The driver, and the kernel around it.
//! block_on(bus.hal(), both(bus.run(), device), async {
//!     bus.connect().await?;
//!     bus.all_offers_delivered().await?;
//!     let opened = bus.open(channel, &OpenParams::default()).await?;
//!     opened.send(&OutgoingPacket::in_band(7, &[b"12345678"]).with_completion()).await?;
//!     opened.wait().await?;
//!     let answer = opened.try_receive(&mut [0; 64], |packet| {
//!         (packet.transaction_id(), packet.payload().to_vec())
//!     })?;
//!     assert_eq!(answer, Some((7, b"12345678".to_vec())));
//!     opened.close().await
//! })?;
//! # Ok::<(), vsc_drivers::ChannelError>(())
//! ```

#![expect(unsafe_code, reason = "plays hardware")]

mod clock;
mod end;
mod hal;
mod host;
mod memory;
mod mischief;
mod offer;
mod protocol;
mod signals;

pub use end::{HostEnd, HostPacket, HostRange};
pub use hal::{FakeHal, must_not_allocate};
pub use host::FakeHost;
pub use memory::GPA_OFFSET;
pub use mischief::Mischief;
pub use offer::FakeOffer;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::vec::Vec;

use core::task::Waker;

use clock::Clock;
use memory::Memory;
use protocol::Host;

/// What guest and host stand on.
struct Machine {
    memory: Memory,
    clock: Clock,
    host: Mutex<Host>,
    bus: OnceLock<Weak<crate::bus::Shared<FakeHal>>>,
    /// Devices that wait for something that the guest does.
    waiting: Mutex<Vec<Waker>>,
}

/// Locks, also after a test has panicked with the lock held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(),
            clock: Clock::new(),
            host: Mutex::new(Host::new()),
            bus: OnceLock::new(),
            waiting: Mutex::new(Vec::new()),
        })
    }

    /// An interrupt: `f` is the handler's part. Without a bus nobody handles it.
    fn interrupt(&self, f: impl FnOnce(&crate::Vmbus<FakeHal>)) {
        let Some(shared) = self.bus.get().and_then(Weak::upgrade) else { return };
        hal::in_interrupt(|| f(&crate::Vmbus { shared }));
    }

    fn wake_devices(&self) {
        lock(&self.waiting).drain(..).for_each(Waker::wake);
    }

    fn wait_for_guest(&self, waker: &Waker) {
        let mut waiting = lock(&self.waiting);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}
