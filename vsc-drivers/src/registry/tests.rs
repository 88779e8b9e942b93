use alloc::boxed::Box;
use alloc::sync::Arc;
use hv_abi::guid::Guid;
use hv_abi::vmbus::message::MessageType;
use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::fake::{FakeHal, FakeHost, FakeOffer};
use crate::task::{both, sleep_until};
use crate::testing::small;
use crate::{BusOptions, ChannelError, ChannelId, SECOND_100NS, block_on};

const DISK: Guid = Guid::new(1, 0, 0, 0);
const NETWORK: Guid = Guid::new(2, 0, 0, 0);
const STRANGE: Guid = Guid::new(3, 0, 0, 0);

/// What happened, in order.
type Log = Arc<Mutex<Vec<(&'static str, ChannelId)>>>;

/// A driver that opens its channel, and notes what becomes of it.
fn noting(log: &Log, name: &'static str) -> impl Driver<FakeHal> + 'static {
    let log = log.clone();
    move |bus: &Vmbus<FakeHal>, offer: Offer| -> DriverTask {
        let (bus, log, channel) = (bus.clone(), log.clone(), offer.channel);
        Box::pin(async move {
            let opened = bus.open(channel, &small()).await.unwrap();
            log.lock().unwrap().push((name, channel));
            while opened.wait().await.is_ok() {}
            assert_eq!(opened.check(), Err(ChannelError::Rescinded));
            log.lock().unwrap().push(("gone", channel));
        })
    }
}

fn seconds(bus: &Vmbus<FakeHal>, seconds: u64) -> impl Future<Output = ()> {
    sleep_until(bus.hal(), seconds * SECOND_100NS)
}

#[test]
fn drivers_start_at_boot_and_later_and_unknown_types_are_left_alone() {
    let host = FakeHost::new();
    let log = Log::default();
    let registry = Registry::new()
        .with(DISK, noting(&log, "disk"))
        .with(NETWORK, noting(&log, "network"))
        .with(DISK, noting(&log, "never"));
    let offer = |interface| host.offer(FakeOffer::new(interface));
    let (disk, strange) = (offer(DISK), offer(STRANGE));
    let bus = host.bus(BusOptions::default());
    block_on(bus.hal(), both(bus.run(), registry.run(&bus)), async {
        bus.connect().await.unwrap();
        seconds(&bus, 1).await;
        let network = offer(NETWORK);
        let other_disk = offer(DISK);
        seconds(&bus, 2).await;
        host.rescind(disk);
        seconds(&bus, 3).await;
        let unknown: Vec<_> = registry.unknown(&bus).iter().map(|offer| offer.channel).collect();
        assert_eq!(unknown, [strange]);
        let expected = [("disk", disk), ("network", network), ("disk", other_disk), ("gone", disk)];
        assert_eq!(*log.lock().unwrap(), expected);
        assert!(!host.has(disk), "given back");
        // The number is used again.
        assert_eq!(offer(NETWORK), disk);
        seconds(&bus, 4).await;
    });
    assert_eq!(log.lock().unwrap().last(), Some(&("network", disk)));
    assert_eq!(host.count(MessageType::OPENCHANNEL), 4);
}

#[test]
fn sub_channels_start_no_driver() {
    let host = FakeHost::new();
    let log = Log::default();
    let registry = Registry::new().with(DISK, noting(&log, "disk"));
    host.offer(FakeOffer::new(DISK).sub_channel(1));
    let bus = host.bus(BusOptions::default());
    block_on(bus.hal(), both(bus.run(), registry.run(&bus)), async {
        bus.connect().await.unwrap();
        seconds(&bus, 1).await;
    });
    assert_eq!(*log.lock().unwrap(), []);
}

#[test]
fn an_executor_gets_the_tasks_one_by_one() {
    let host = FakeHost::new();
    let log = Log::default();
    let registry = Registry::new().with(DISK, noting(&log, "disk"));
    let disk = host.offer(FakeOffer::new(DISK));
    let bus = host.bus(BusOptions::default());
    block_on(bus.hal(), bus.run(), async {
        bus.connect().await.unwrap();
        let task = registry.next(&bus).await;
        assert_eq!(*log.lock().unwrap(), []);
        both(task, async {
            seconds(&bus, 1).await;
            host.rescind(disk);
        })
        .await;
    });
    assert_eq!(*log.lock().unwrap(), [("disk", disk), ("gone", disk)]);
}

#[test]
fn a_registry_shows_its_types() {
    let registry = Registry::<FakeHal>::default();
    assert!(registry.driver(DISK).is_none());
    assert_eq!(std::format!("{registry:?}"), "[]");
}
