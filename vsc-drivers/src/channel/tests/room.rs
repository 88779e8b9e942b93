//! Rings that are full.

use hv_abi::vmbus::version::VmbusVersion;
use std::cell::Cell;
use std::vec::Vec;
use vmbus_ring::{Control, OutgoingPacket};

use crate::ChannelError;
use crate::task::{both, sleep_until};
use crate::testing::{opened, run};

#[test]
fn a_sender_waits_for_room_at_every_version() {
    for version in VmbusVersion::ALL {
        let (host, bus, channel) = opened(version);
        let end = run(&bus, host.opened(channel.offer().channel));
        let payload: [&[u8]; 1] = [&[0x5A; 10_000]];
        let sent = Cell::new(0);
        let driver = async {
            for number in 0..100 {
                channel.send(&OutgoingPacket::in_band(number, &payload)).await.unwrap();
                sent.set(number);
            }
            channel.close().await.unwrap();
        };
        let device = async {
            let mut next = 0;
            let mut deadline = crate::SECOND_100NS;
            while end.is_open() {
                // Slow: a few packets now and then.
                sleep_until(bus.hal(), deadline).await;
                deadline += crate::SECOND_100NS / 100;
                while let Some(packet) = end.try_receive() {
                    assert_eq!(packet.transaction_id, next);
                    next += 1;
                }
            }
            assert!(next > 90);
        };
        run(&bus, both(driver, device));
        assert_eq!(sent.get(), 99, "version {version}");
    }
}

#[test]
fn several_senders_that_wait_all_get_through() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let end = run(&bus, host.opened(channel.offer().channel));
    let large: [&[u8]; 1] = [&[1; 40_000]];
    let small: [&[u8]; 1] = [&[2; 8]];
    channel.try_send(&OutgoingPacket::in_band(0, &large)).unwrap();
    let send = async |number, payload: &[&[u8]]| {
        for _ in 0..20 {
            channel.send(&OutgoingPacket::in_band(number, payload)).await.unwrap();
        }
    };
    let count = Cell::new(0);
    let device = async {
        while count.get() < 81 {
            end.receive().await.unwrap();
            count.set(count.get() + 1);
        }
    };
    let senders =
        both(both(send(1, &large), send(2, &large)), both(send(3, &small), send(4, &large)));
    run(&bus, both(senders, device));
    assert_eq!(count.get(), 81);
}

#[test]
fn a_full_ring_is_told_and_no_error_for_good() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let end = run(&bus, host.opened(channel.offer().channel));
    let payload: [&[u8]; 1] = [&[0; 60_000]];
    let packet = OutgoingPacket::in_band(1, &payload);
    channel.try_send(&packet).unwrap();
    assert_eq!(channel.try_send(&packet), Err(ChannelError::Full));
    assert!(end.try_receive().is_some());
    assert!(end.try_receive().is_none());
    assert_eq!(channel.try_send(&packet), Ok(()));
}

#[test]
fn a_packet_that_never_fits_is_not_waited_for() {
    let (_host, bus, channel) = opened(VmbusVersion::V5_3);
    let payload: [&[u8]; 1] = [&[0; 70_000]];
    let sent = run(&bus, channel.send(&OutgoingPacket::in_band(1, &payload)));
    assert_eq!(sent, Err(ChannelError::TooLarge));
    assert_eq!(run(&bus, channel.wait_for_room(1 << 20)), Err(ChannelError::TooLarge));
}

#[test]
fn the_request_for_room_is_taken_back() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let end = run(&bus, host.opened(channel.offer().channel));
    let payload: [&[u8]; 1] = [&[0; 60_000]];
    channel.try_send(&OutgoingPacket::in_band(1, &payload)).unwrap();
    let pending = || end.guests_control(Control::PendingSendSize);
    run(&bus, async {
        let limit = crate::SECOND_100NS;
        let waited = crate::task::within(bus.hal(), limit, channel.wait_for_room(60_000)).await;
        assert!(waited.is_err());
    });
    assert_eq!(pending(), 0, "given up");
    let reads = async {
        sleep_until(bus.hal(), 100 * crate::SECOND_100NS).await;
        assert!(pending() >= 60_000, "asked");
        end.receive().await.unwrap();
        assert!(end.try_receive().is_none());
    };
    run(&bus, both(async { channel.wait_for_room(60_000).await.unwrap() }, reads));
    assert_eq!(pending(), 0, "and got");
}

#[test]
fn waiting_for_room_ends_with_the_channel() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let payload: [&[u8]; 1] = [&[0; 60_000]];
    let packet = OutgoingPacket::in_band(1, &payload);
    channel.try_send(&packet).unwrap();
    let waits = async { assert_eq!(channel.send(&packet).await, Err(ChannelError::Rescinded)) };
    run(&bus, both(waits, async { host.rescind(channel.offer().channel) }));
}

#[test]
fn the_hosts_ring_is_emptied_while_it_waits_for_room() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let end = run(&bus, host.opened(channel.offer().channel));
    let payload: [&[u8]; 1] = [&[7; 1000]];
    let sends = async {
        let mut sent = 0;
        while sent < 500 {
            match end.try_send(&OutgoingPacket::in_band(sent, &payload)) {
                Ok(()) => sent += 1,
                // The guest's release is seen at the next look.
                Err(_) => {
                    let then = crate::Hal::now_100ns(bus.hal()) + 1000;
                    sleep_until(bus.hal(), then).await;
                }
            }
        }
    };
    let receives = async {
        let mut numbers = Vec::new();
        let mut buffer = [0; 2000];
        while numbers.len() < 500 {
            channel.wait().await.unwrap();
            let number = |packet: vmbus_ring::Packet<'_>| packet.transaction_id();
            while let Some(number) = channel.try_receive(&mut buffer, number).unwrap() {
                numbers.push(number);
            }
        }
        assert!(numbers.into_iter().eq(0..500));
    };
    run(&bus, both(receives, sends));
}
