//! Guests that break the rules: an answer that says so, or the end of their channel, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use hv_abi::storvsp::{DataDirection, Operation, StorvspVersion, VstorStatus};
use hv_abi::vmbus::message::{OfferChannel, RescindChannelOffer};
use proptest::prelude::*;
use vmbus_ring::{GpaRange, OutgoingPacket};
use zerocopy::IntoBytes;

use super::guest::*;
use crate::storage::faulty::{FaultyDisk, Kind, Trouble};
use crate::storage::memory::MemoryDisk;
use crate::vmbus::testing::RAM_BYTES;
use crate::vsp::storvsp::fuzzing::{Desk, FuzzPacket};

const TEST: [u8; 6] = [0; 6];

fn machine() -> Machine {
    Machine::new(&[Arc::new(MemoryDisk::new(vec![1; 1 << 20]))])
}

fn invalid() -> Outcome {
    Outcome::refused(6, VstorStatus::INVALID_PARAMETER)
}

/// Sends a packet of any kind, after which the channel must be gone while another goes on.
#[track_caller]
fn check_fatal(send: impl FnOnce(&mut Channel<'_>)) {
    let machine = machine();
    let mut channel = machine.start();
    channel.expect(Operation::CREATE_SUB_CHANNELS, &1_u16.to_le_bytes());
    let offer: OfferChannel = machine.guest.take();
    let mut other = machine.open_offer(&offer);
    send(&mut other);
    let rescind: RescindChannelOffer = machine.guest.take();
    assert_eq!(rescind.child_relid, offer.child_relid);
    machine.guest.expect_errors("provider", 1);
    assert_eq!(channel.command(0, &TEST), Outcome::done(0));
}

#[test]
fn answers_to_nothing_end_the_channel() {
    let payload: [&[u8]; 1] = [&[1; 64]];
    let packet = OutgoingPacket::completion(5, &payload);
    check_fatal(|channel| channel.channel.send(channel.guest, &packet));
}

#[test]
fn packets_of_other_kinds_end_the_channel() {
    use vmbus_ring::OutgoingKind;
    for kind in [OutgoingKind::Cancel, OutgoingKind::Gpadl(3)] {
        let payload: [&[u8]; 1] = [&[1; 64]];
        let packet = OutgoingPacket::new(kind, 5, &payload).with_completion();
        check_fatal(|channel| channel.channel.send(channel.guest, &packet));
    }
}

#[test]
fn requests_without_a_wish_for_an_answer_end_the_channel() {
    let payload: [&[u8]; 1] = [&[3; 64]];
    let packet = OutgoingPacket::in_band(5, &payload);
    check_fatal(|channel| channel.channel.send(channel.guest, &packet));
}

#[test]
fn packets_without_a_header_end_the_channel() {
    check_fatal(|channel| {
        channel.send_bytes(&[3, 0, 0, 0, 1, 0, 0, 0]);
    });
    check_fatal(|channel| {
        channel.send_bytes(&[]);
    });
}

#[test]
fn short_and_long_packets_are_answered_in_kind() {
    let machine = machine();
    let mut channel = machine.start();
    let mut exchange = |length: usize| {
        let mut bytes = vec![0; length];
        bytes[0] = 3;
        channel.send_bytes(&bytes);
        let answer = channel.answer().1;
        (answer.len(), u32::from_le_bytes(answer[8..12].try_into().unwrap()))
    };
    // A header, a request that is cut off: STATUS_INVALID_PARAMETER.
    assert_eq!(exchange(16), (16, 0xC000_000D));
    assert_eq!(exchange(40), (40, 0xC000_000D));
    // A whole one of old; one that is longer than all. A command block of no bytes is refused by the unit.
    assert_eq!(exchange(48), (48, 0xC000_0001));
    assert_eq!(exchange(4096), (64, 0xC000_0001));
}

#[test]
fn memory_that_is_none_is_refused() {
    let machine = machine();
    let mut channel = machine.start();
    let request = channel.request(0, &blocks_10(0x28, 0, 1), DataDirection::READ, 512);
    let behind = RAM_BYTES >> 12;
    for page in [behind, u64::MAX >> 12] {
        let pages = [page];
        let range = GpaRange { byte_count: 512, byte_offset: 0, pages: &pages };
        channel.send_request(&request, &[range]);
        assert_eq!(channel.outcome().1, invalid(), "{page:#x}");
    }
    assert_eq!(channel.command(0, &TEST), Outcome::done(0));
}

#[test]
fn lengths_that_lie_are_refused() {
    let machine = machine();
    let mut channel = machine.start();
    let memory = Memory::new(&machine.guest, 512);
    let ranges = [memory.range()];
    for bytes in [513, 4096, u32::MAX] {
        let request = channel.request(0, &blocks_10(0x28, 0, 1), DataDirection::READ, bytes);
        channel.send_request(&request, &ranges);
        assert_eq!(channel.outcome().1, invalid(), "{bytes}");
    }
    let mut request = channel.request(0, &TEST, DataDirection::UNKNOWN, 0);
    for length in [17, 255] {
        request.cdb_length = length;
        channel.send_request(&request, &[]);
        assert_eq!(channel.outcome().1, invalid(), "{length}");
    }
    // A command block that is too short, or none at all, is the unit's business.
    request.cdb_length = 0;
    channel.send_request(&request, &[]);
    assert_eq!(channel.outcome().1, Outcome::failed(5, 0x24, 0));
    // More blocks than memory, in either direction.
    for way in [DataDirection::READ, DataDirection::WRITE, DataDirection::UNKNOWN, DataDirection(9)]
    {
        for op in [0x28, 0x2A] {
            let request = channel.request(0, &blocks_10(op, 0, 2), way, 512);
            channel.send_request(&request, &ranges);
            assert_eq!(channel.outcome().1, Outcome::failed(5, 0x24, 0));
        }
    }
    assert_eq!(memory.content(&machine.guest), vec![0xEE; 512]);
}

#[test]
fn a_guest_that_reads_no_answers_holds_up_only_itself() {
    let machine = machine();
    let mut channel = machine.start();
    channel.expect(Operation::CREATE_SUB_CHANNELS, &1_u16.to_le_bytes());
    let mut other = machine.open_offer(&machine.guest.take());
    let request = channel.request(0, &TEST, DataDirection::UNKNOWN, 0);
    let header = [3_u32, 1, 0];
    let parts = [header.as_bytes(), request.as_bytes()];
    // Until neither ring has room.
    let mut sent = 0;
    let mut stuck = 0;
    while stuck < 50 {
        let packet = OutgoingPacket::in_band(100 + sent, &parts).with_completion();
        match other.channel.sender.send(&packet) {
            Ok(signal) => {
                if signal.needed() {
                    other.guest.signal(other.connection).unwrap();
                }
                (sent, stuck) = (sent + 1, 0);
            }
            Err(_) => {
                stuck += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    assert!(sent > 600, "{sent}");
    assert_eq!(channel.command(0, &TEST), Outcome::done(0));
    let answered: Vec<_> = (0..sent).map(|_| other.answer().0).collect();
    assert_eq!(answered, (100..100 + sent).collect::<Vec<_>>());
}

#[test]
fn a_channel_that_is_closed_lets_its_requests_finish() {
    let slow = Arc::new(FaultyDisk::new(Arc::new(MemoryDisk::new(vec![5; 4096]))));
    slow.always(Kind::Read, Trouble::Slow(Duration::from_millis(100)));
    let machine = Machine::new(&[slow]);
    let mut channel = machine.start();
    let memory = Memory::new(&machine.guest, 512);
    let request = channel.request(0, &blocks_10(0x28, 0, 1), DataDirection::READ, 512);
    channel.send_request(&request, &[memory.range()]);
    channel.command(0, &TEST);
    // The guest has its rings back only when nothing of the channel is left.
    channel.channel.close(&machine.guest);
    assert_eq!(memory.content(&machine.guest), vec![5; 512]);
}

#[test]
fn the_host_leaves_while_requests_are_in_flight() {
    let slow = Arc::new(FaultyDisk::new(Arc::new(MemoryDisk::new(vec![5; 4096]))));
    slow.always(Kind::Read, Trouble::Slow(Duration::from_millis(50)));
    let machine = Machine::new(&[slow]);
    let mut channel = machine.start();
    let memory = Memory::new(&machine.guest, 512);
    for _ in 0..20 {
        let request = channel.request(0, &blocks_10(0x28, 0, 1), DataDirection::READ, 512);
        channel.send_request(&request, &[memory.range()]);
    }
    assert_eq!(machine.guest.server.stop(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_packet_stops_the_host(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 12..96), 1..60),
    ) {
        let machine = machine();
        let mut channel = machine.start();
        for mut packet in packets {
            // Mostly requests, and never one that ends the channel.
            packet[1..4].fill(0);
            packet[0] = if packet[0] < 200 { 3 } else { packet[0] };
            channel.send_bytes(&packet);
            channel.answer();
        }
        // News of resets may wait.
        channel.command(0, &TEST);
        prop_assert_eq!(channel.command(0, &TEST), Outcome::done(0));
    }

    #[test]
    fn any_packets_in_any_order_are_answered_or_end_the_channel(
        newest in prop::sample::select(StorvspVersion::ALL.to_vec()),
        ready in any::<bool>(),
        packets in prop::collection::vec(
            (
                prop::collection::vec(prop_oneof![2 => Just(0_u8), 1 => any::<u8>()], 0..100),
                any::<(u16, u16)>(),
                prop::collection::vec(0_u64..20, 0..6),
                prop_oneof![Just(3_u8), 0_u8..16],
            ),
            1..20,
        ),
    ) {
        let mut desk = Desk::new(newest, ready);
        for (mut payload, (bytes, offset), pages, operation) in packets {
            if let Some(first) = payload.first_mut() {
                *first = operation;
            }
            let range = (bytes.into(), offset.into(), &pages[..]);
            let answer = desk.take(&FuzzPacket { payload: &payload, range });
            prop_assert_eq!(answer.is_none(), payload.len() < 12);
        }
    }
}
