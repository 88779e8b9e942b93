//! Packets in both directions, and rings that the host breaks.

use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::VmbusVersion;
use std::vec;
use std::vec::Vec;
use vmbus_ring::{Control, GpaRange, OutgoingPacket};

use crate::ChannelError;
use crate::channel::Channel;
use crate::fake::{FakeHal, FakeHost, HostEnd};
use crate::hal::Hal;
use crate::task::both;
use crate::testing::{opened, run, settle};

type Ends = (FakeHost, crate::Vmbus<FakeHal>, Channel<FakeHal>, HostEnd);

fn ends(version: VmbusVersion) -> Ends {
    let (host, bus, channel) = opened(version);
    let end = run(&bus, host.opened(channel.offer().channel));
    (host, bus, channel, end)
}

/// All packets that are there: number and payload.
fn received(channel: &Channel<FakeHal>) -> Vec<(u64, Vec<u8>)> {
    let mut buffer = [0; 4096];
    let mut all = Vec::new();
    let copy =
        |packet: vmbus_ring::Packet<'_>| (packet.transaction_id(), packet.payload().to_vec());
    while let Some(packet) = channel.try_receive(&mut buffer, copy).unwrap() {
        all.push(packet);
    }
    all
}

#[test]
fn packets_go_both_ways_in_order_at_every_version() {
    for version in VmbusVersion::ALL {
        let (_host, bus, channel, end) = ends(version);
        let device = async {
            while let Some(packet) = end.receive().await {
                assert_eq!(packet.kind, PacketType::DATA_INBAND);
                end.complete(&packet, &packet.payload);
            }
        };
        let driver = async {
            for round in 0_u64..200 {
                let payload = [round.to_le_bytes(), [0xAA; 8]];
                let slices = [&payload[0][..], &payload[1][..]];
                channel
                    .send(&OutgoingPacket::in_band(round, &slices).with_completion())
                    .await
                    .unwrap();
                channel.wait().await.unwrap();
                assert_eq!(received(&channel), [(round, payload.concat())]);
            }
            channel.close().await.unwrap();
        };
        run(&bus, both(driver, device));
    }
}

#[test]
fn guest_memory_is_lent_by_page() {
    let (_host, bus, channel, end) = ends(VmbusVersion::V5_3);
    let mut memory = vec![0_u8; 3 * 4096];
    memory[4000..4010].copy_from_slice(b"ten bytes!");
    let start = memory.as_mut_ptr();
    let first = bus.hal().gpa(start.wrapping_add(4000)).unwrap().0;
    let second = bus.hal().gpa(start.wrapping_add(8192)).unwrap().0;
    let range = GpaRange {
        byte_count: 10,
        byte_offset: (first % 4096) as u32,
        pages: &[first / 4096, second / 4096][..if first % 4096 > 4086 { 2 } else { 1 }],
    };
    channel.try_send(&OutgoingPacket::gpa_direct(5, &[range], &[b"read it"])).unwrap();
    let packet = end.try_receive().unwrap();
    assert_eq!((packet.kind, packet.transaction_id), (PacketType::DATA_USING_GPA_DIRECT, 5));
    assert_eq!((packet.ranges.len(), packet.ranges[0].bytes), (1, 10));
    assert_eq!(end.read_ranges(&packet).len(), 10);
}

#[test]
fn a_batch_is_sent_with_one_signal() {
    let (host, _bus, channel, end) = ends(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    let payload: [&[u8]; 1] = [b"payload"];
    let packets = (0..10).map(|number| OutgoingPacket::in_band(number, &payload));
    assert_eq!(channel.try_send_batch(packets), Ok(10));
    assert_eq!(host.signals(id), (1, 0));
    let numbers = core::iter::from_fn(|| end.try_receive()).map(|packet| packet.transaction_id);
    assert!(numbers.eq(0..10));
}

#[test]
fn a_batch_stops_where_the_ring_is_full_or_a_packet_is_none() {
    let (_host, _bus, channel, end) = ends(VmbusVersion::V5_3);
    let payload: [&[u8]; 1] = [&[0; 16 * 1024]];
    let packets = || (0..10).map(|number| OutgoingPacket::in_band(number, &payload));
    assert_eq!(channel.try_send_batch(packets()), Ok(3));
    assert_eq!(channel.try_send_batch(packets()), Ok(0));
    while end.try_receive().is_some() {}

    let huge: [&[u8]; 1] = [&[0; 70_000]];
    let sizes = [&payload, &huge, &payload];
    let packets = || sizes.iter().map(|payload| OutgoingPacket::in_band(0, *payload));
    assert_eq!(channel.try_send_batch(packets()), Ok(1));
    assert_eq!(channel.try_send_batch(packets().skip(1)), Err(ChannelError::TooLarge));
}

#[test]
fn a_packet_larger_than_the_buffer_stays_in_the_ring() {
    let (_host, _bus, channel, end) = ends(VmbusVersion::V5_3);
    end.send(&OutgoingPacket::in_band(1, &[&[3; 100]]));
    let small = channel.try_receive(&mut [0; 50], |_| ());
    assert_eq!(small, Err(ChannelError::BufferTooSmall { needed: 104 }));
    assert_eq!(received(&channel).len(), 1);
}

#[test]
fn what_came_before_the_channel_was_taken_back_is_still_read() {
    let (host, _bus, channel, end) = ends(VmbusVersion::V5_3);
    end.send(&OutgoingPacket::in_band(1, &[b"last words"]));
    host.rescind(channel.offer().channel);
    settle(channel.bus());
    run(channel.bus(), async {
        assert_eq!(channel.wait().await, Err(ChannelError::Rescinded));
    });
    let mut buffer = [0; 64];
    assert_eq!(channel.try_receive(&mut buffer, |_| ()), Ok(Some(())));
    assert_eq!(channel.try_receive(&mut buffer, |_| ()), Err(ChannelError::Rescinded));
    let packet = OutgoingPacket::in_band(2, &[]);
    assert_eq!(channel.try_send(&packet), Err(ChannelError::Rescinded));
}

#[test]
fn a_broken_ring_is_a_named_error_and_stays_one() {
    for (word, value) in [
        (Control::WriteIndex, 0x8000_0000),
        (Control::WriteIndex, 3),
        (Control::WriteIndex, 8),
        (Control::WriteIndex, u32::MAX),
    ] {
        let (_host, bus, channel, end) = ends(VmbusVersion::V5_3);
        end.break_ring(word, value);
        end.interrupt();
        let looked = run(&bus, async {
            channel.wait().await?;
            channel.try_receive(&mut [0; 64], |_| ())
        });
        assert!(matches!(looked, Err(ChannelError::Corrupt(_))), "{word:?} {value:#x}: {looked:?}");
        end.break_ring(word, 0);
        let again = channel.try_receive(&mut [0; 64], |_| ());
        assert_eq!(again.err(), looked.err());
        run(&bus, channel.close()).unwrap();
    }
}

#[test]
fn a_read_index_that_lies_is_a_named_error() {
    for value in [5, 4096 * 16, 0x8000_0000, u32::MAX] {
        let (_host, bus, channel, end) = ends(VmbusVersion::V5_3);
        end.break_guests_ring(Control::ReadIndex, value);
        let payload: [&[u8]; 1] = [&[0; 16 * 1024]];
        let sent = run(&bus, async {
            loop {
                channel.send(&OutgoingPacket::in_band(0, &payload)).await?;
            }
            #[expect(unreachable_code, reason = "says the type")]
            Ok::<(), ChannelError>(())
        });
        assert!(matches!(sent, Err(ChannelError::Corrupt(_))), "{value:#x}: {sent:?}");
    }
}

#[test]
fn bytes_that_are_no_packet_are_a_named_error() {
    let (_host, bus, channel, end) = ends(VmbusVersion::V5_3);
    end.scribble(0, &[0xFF; 256]);
    end.break_ring(Control::WriteIndex, 256);
    end.interrupt();
    let looked = run(&bus, async {
        channel.wait().await?;
        channel.try_receive(&mut [0; 4096], |_| ())
    });
    assert!(matches!(looked, Err(ChannelError::Corrupt(_))), "{looked:?}");
}

#[test]
fn one_broken_channel_leaves_another_alone() {
    let (host, bus, channel, end) = ends(VmbusVersion::V5_3);
    let other = host.offer(crate::fake::FakeOffer::new(crate::testing::DEVICE));
    settle(&bus);
    let other = run(&bus, bus.open(other, &crate::OpenParams::default())).unwrap();
    let other_end = run(&bus, host.opened(other.offer().channel));
    end.break_ring(Control::WriteIndex, 1);
    assert!(channel.try_receive(&mut [0; 64], |_| ()).is_err());
    other_end.send(&OutgoingPacket::in_band(9, &[b"well"]));
    run(&bus, other.wait()).unwrap();
    assert_eq!(received(&other), [(9, b"well\0\0\0\0".to_vec())]);
}
