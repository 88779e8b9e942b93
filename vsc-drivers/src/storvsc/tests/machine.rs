//! A guest with the driver on a machine with the scripted host.

use alloc::vec::Vec;
use core::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv_abi::guid::Guid;
use hv_abi::storvsp::SCSI_GUID;
use vmbus_ring::OutgoingPacket;

use super::target::Target;
use crate::bus::{BusOptions, ChannelId, Vmbus};
use crate::fake::{FakeHal, FakeHost, FakeOffer, HostEnd};
use crate::storvsc::{Disk, StartError, StorOptions, StorVsc, join};
use crate::task::{block_on, both};

/// Which controller.
pub(super) const INSTANCE: Guid = Guid::new(0x1234, 5, 6, 7);

/// The machine, for a test to look at and to change.
pub(super) struct Machine {
    pub(super) host: FakeHost,
    pub(super) channel: ChannelId,
    pub(super) bus: Vmbus<FakeHal>,
    target: Arc<Mutex<Target>>,
    ends: Mutex<Vec<Arc<HostEnd>>>,
}

impl Machine {
    pub(super) fn new(prepare: impl FnOnce(&mut Target)) -> Self {
        let host = FakeHost::new();
        let channel = host.offer(FakeOffer::new(SCSI_GUID).instance(INSTANCE));
        let bus = host.bus(BusOptions::default());
        let mut target = Target::new();
        prepare(&mut target);
        Self {
            host,
            channel,
            bus,
            target: Arc::new(Mutex::new(target)),
            ends: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's end of the channel that was opened as the one numbered `index`.
    pub(super) fn end(&self, index: usize) -> Arc<HostEnd> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }

    /// Answers the request that was held first.
    pub(super) fn release(&self) {
        let end = self.end(0);
        self.target().release(&end, 0);
    }

    /// Sends a packet of the host's own.
    pub(super) fn tell(&self, operation: u32) {
        let mut payload = [0; 64];
        payload[..4].copy_from_slice(&operation.to_le_bytes());
        self.end(0).send(&OutgoingPacket::in_band(0, &[&payload]));
    }

    /// Plays the device on one channel, whenever the guest opens it.
    pub(super) async fn serve(&self, channel: ChannelId) {
        loop {
            let end = Arc::new(self.host.opened(channel).await);
            if channel == self.channel {
                self.target().begin();
            }
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(end.clone());
            while let Some(packet) = end.receive().await {
                self.target().serve(&end, packet);
            }
        }
    }

    /// Runs `test` beside bus and device.
    pub(super) fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let background = both(self.bus.run(), self.serve(self.channel));
        block_on(self.bus.hal(), pin!(background), async {
            self.bus.connect().await.unwrap();
            self.bus.all_offers_delivered().await.unwrap();
            test.await
        })
    }

    pub(super) async fn start(&self, options: StorOptions) -> Result<StorVsc<FakeHal>, StartError> {
        StorVsc::start(&self.bus, self.channel, options).await
    }
}

/// Runs `test` with the driver's task beside it.
pub(super) fn with_driver<T>(
    prepare: impl FnOnce(&mut Target),
    options: StorOptions,
    test: impl AsyncFnOnce(&Machine, &StorVsc<FakeHal>) -> T,
) -> T {
    let machine = Machine::new(prepare);
    machine.run(async {
        let storvsc = machine.start(options).await.unwrap();
        join::beside(test(&machine, &storvsc), Vec::from([join::task(storvsc.run())])).await
    })
}

/// The same with the disk of unit 0.
pub(super) fn with_disk<T>(
    prepare: impl FnOnce(&mut Target),
    test: impl AsyncFnOnce(&Machine, Disk<FakeHal>) -> T,
) -> T {
    with_driver(prepare, StorOptions::default(), async |machine, storvsc| {
        test(machine, storvsc.disk(0).unwrap()).await
    })
}

/// A waker that does nothing is not enough for what is polled by hand here: it is woken by `run` anyhow.
pub(super) fn poll_once<F: Future>(future: core::pin::Pin<&mut F>) -> core::task::Poll<F::Output> {
    future.poll(&mut core::task::Context::from_waker(core::task::Waker::noop()))
}

/// Lets everything else run for so long, in units of 100 ns.
pub(super) async fn pause(machine: &Machine, duration_100ns: u64) {
    let hal = machine.bus.hal();
    let end = crate::hal::Hal::now_100ns(hal) + duration_100ns;
    crate::task::sleep_until(hal, end).await;
}
