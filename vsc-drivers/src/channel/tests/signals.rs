//! Signals: only where needed, and the way the offer and the version say.

use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;

use crate::bus::{BusOptions, ChannelId, Vmbus};
use crate::channel::Channel;
use crate::fake::{FakeHal, FakeHost, FakeOffer, HostEnd};
use crate::task::both;
use crate::testing::{DEVICE, opened, run};
use crate::{ChannelError, OpenParams};

fn open(offer: FakeOffer, options: BusOptions, params: OpenParams<'_>) -> Open {
    let host = FakeHost::new();
    let id = host.offer(offer);
    let bus = host.bus(options);
    let channel = run(&bus, async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
        bus.open(id, &params).await.unwrap()
    });
    let end = run(&bus, host.opened(id));
    Open { host, bus, channel, end, id }
}

struct Open {
    host: FakeHost,
    bus: Vmbus<FakeHal>,
    channel: Channel<FakeHal>,
    end: HostEnd,
    id: ChannelId,
}

const PACKET: OutgoingPacket<'static> = OutgoingPacket::in_band(1, &[b"packet"]);

#[test]
fn only_the_first_packet_of_a_burst_signals() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    let end = run(&bus, host.opened(id));
    (0..100).for_each(|_| channel.try_send(&PACKET).unwrap());
    assert_eq!(host.signals(id), (1, 0));
    while end.try_receive().is_some() {}
    channel.try_send(&PACKET).unwrap();
    assert_eq!(host.signals(id), (2, 0));
}

#[test]
fn the_guest_is_signalled_once_for_a_burst() {
    let Open { bus, channel, end, .. } =
        open(FakeOffer::new(DEVICE), BusOptions::default(), OpenParams::default());
    let mut waits = 0;
    let driver = async {
        let mut received = 0;
        while received < 100 {
            channel.wait().await.unwrap();
            waits += 1;
            while channel.try_receive(&mut [0; 64], |_| ()).unwrap().is_some() {
                received += 1;
            }
        }
    };
    let device = async { (0..100).for_each(|_| end.send(&PACKET)) };
    run(&bus, both(driver, device));
    assert_eq!(waits, 1);
}

#[test]
fn a_channel_without_a_dedicated_interrupt_sets_its_bit_too() {
    // The host looks for the bit, and fails if it is not there.
    for version in VmbusVersion::ALL {
        let options = BusOptions::default().forced(version);
        let Open { host, channel, id, .. } =
            open(FakeOffer::new(DEVICE).shared_interrupt(), options, OpenParams::default());
        channel.try_send(&PACKET).unwrap();
        assert_eq!(host.signals(id), (1, 0), "version {version}");
    }
}

#[test]
fn a_trigger_saves_the_call() {
    for trigger in [0, 31, 32, 77, 127] {
        let Open { host, bus, channel, end, id } = open(
            FakeOffer::new(DEVICE).monitor(trigger),
            BusOptions::default(),
            OpenParams::default(),
        );
        let driver = async {
            channel.send(&PACKET.with_completion()).await.unwrap();
            channel.wait().await.unwrap();
        };
        let device = async {
            let packet = end.receive().await.unwrap();
            end.complete(&packet, &[]);
        };
        run(&bus, both(driver, device));
        assert_eq!(host.signals(id), (0, 1), "trigger {trigger}");
    }
}

#[test]
fn low_latency_and_no_monitor_pages_signal_by_call() {
    let low_latency = OpenParams { low_latency: true, ..OpenParams::default() };
    let without = BusOptions { monitor_pages: false, ..BusOptions::default() };
    let cases = [(BusOptions::default(), low_latency), (without, OpenParams::default())];
    for (options, params) in cases {
        let Open { host, channel, id, .. } =
            open(FakeOffer::new(DEVICE).monitor(5), options, params);
        channel.try_send(&PACKET).unwrap();
        assert_eq!(host.signals(id), (1, 0));
    }
}

#[test]
fn a_signal_that_the_hypervisor_refuses_is_an_error() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    // The device is gone for the host, and its connection with it, before the guest knows.
    host.refuse_signals(true);
    assert!(matches!(channel.try_send(&PACKET), Err(ChannelError::Signal(_))));
    assert_eq!(host.signals(id), (0, 0));
    drop(bus);
}

#[test]
fn interrupts_for_nothing_wake_nobody_for_good() {
    let Open { bus, channel, end, .. } =
        open(FakeOffer::new(DEVICE), BusOptions::default(), OpenParams::default());
    let driver = async {
        channel.wait().await.unwrap();
        assert_eq!(
            channel.try_receive(&mut [0; 64], |packet| packet.transaction_id()),
            Ok(Some(1))
        );
    };
    let device = async {
        (0..100).for_each(|_| end.interrupt());
        crate::task::sleep_until(bus.hal(), crate::SECOND_100NS).await;
        end.send(&PACKET);
    };
    run(&bus, both(driver, device));
}
