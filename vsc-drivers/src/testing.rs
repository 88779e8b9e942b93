//! What the crate's own tests have in common.

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;

use crate::bus::{BusOptions, ChannelId, Vmbus};
use crate::channel::{Channel, OpenParams};
use crate::fake::{FakeHal, FakeHost, FakeOffer};
use crate::task::block_on;

/// Some interface type.
pub(crate) const DEVICE: Guid = Guid::new(0xD, 0xE, 0xF, 0x10);

/// A host that offers one device, and a bus without a connection.
pub(crate) fn machine(options: BusOptions) -> (FakeHost, Vmbus<FakeHal>, ChannelId) {
    let host = FakeHost::new();
    let channel = host.offer(FakeOffer::new(DEVICE));
    let bus = host.bus(options);
    (host, bus, channel)
}

/// The same, connected with that version.
pub(crate) fn connected(version: VmbusVersion) -> (FakeHost, Vmbus<FakeHal>, ChannelId) {
    let (host, bus, channel) = machine(BusOptions::default().forced(version));
    run(&bus, async {
        assert_eq!(bus.connect().await, Ok(version));
        assert_eq!(bus.all_offers_delivered().await, Ok(()));
    });
    (host, bus, channel)
}

/// The same, with the channel open.
pub(crate) fn opened(version: VmbusVersion) -> (FakeHost, Vmbus<FakeHal>, Channel<FakeHal>) {
    let (host, bus, channel) = connected(version);
    let opened = run(&bus, bus.open(channel, &OpenParams::default())).unwrap();
    (host, bus, opened)
}

/// Waits for `future` beside the bus's task.
pub(crate) fn run<T>(bus: &Vmbus<FakeHal>, future: impl Future<Output = T>) -> T {
    block_on(bus.hal(), bus.run(), future)
}

/// Rings whose GPADL is one message.
pub(crate) fn small() -> OpenParams<'static> {
    OpenParams { send_bytes: 4096, receive_bytes: 4096, ..OpenParams::default() }
}

/// Lets the bus's task do what it can without waiting.
pub(crate) fn settle(bus: &Vmbus<FakeHal>) {
    let mut once = false;
    run(
        bus,
        core::future::poll_fn(|context| {
            if core::mem::replace(&mut once, true) {
                return core::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            core::task::Poll::Pending
        }),
    );
}

/// Lets so much time pass that every time limit is over.
pub(crate) fn much_later(bus: &Vmbus<FakeHal>) {
    let then = crate::Hal::now_100ns(bus.hal()) + 60 * crate::SECOND_100NS;
    run(bus, crate::task::sleep_until(bus.hal(), then));
}
