use std::time::Duration;

use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;

use super::driver::{Driver, RING_PAGES, packet_message, try_packet, word, words};
use crate::net::offload::samples::tcp4;
use crate::vmbus::testing::{TestChannel, wait_for};

/// Asks for sub-channels and opens them.
fn sub_channels(driver: &mut Driver, count: u32) -> Vec<TestChannel> {
    let transaction = driver.ask(&[133, 1, count]);
    let offers: Vec<OfferChannel> = (0..count).map(|_| driver.guest.take()).collect();
    let got = driver.next_packet();
    assert_eq!(
        (got.transaction, got.word(0), got.word(1), got.word(2)),
        (transaction, 133, 1, count)
    );
    let channels = offers.iter().zip(1..).map(|(offer, index)| {
        assert_eq!(offer.offer.sub_channel_index, index);
        driver.guest.open(offer, RING_PAGES)
    });
    channels.collect()
}

/// What Linux's `rndis_set_rss_param_msg` sends, with a table of these channels.
fn rss_message(table: &[u32]) -> Vec<u8> {
    let table_bytes = table.len() as u32 * 4;
    let length = 40 + table_bytes + 40;
    let head = [5, 28 + length, 9, 0x0001_0204, length, 20, 0];
    let parameters = [0x0028_0289, 0, 0x1701, table_bytes, 40, 40, 40 + table_bytes, 0, 0, 0];
    let key = (0..40).map(|byte| byte * 3 + 1).collect();
    [words(&head), words(&parameters), words(table), key].concat()
}

fn set_rss(driver: &mut Driver, table: &[u32]) {
    let transaction = driver.send_direct(1, &rss_message(table));
    driver.expect_completion(transaction, 1);
    let got = driver.next_packet();
    assert_eq!(word(&driver.range(got.ranges[0]), 3), 0);
    driver.complete(got.transaction);
}

/// A frame of one of many flows, for everybody.
fn flow(port: u16) -> Vec<u8> {
    let mut frame = tcp4(b"x");
    frame[..6].fill(0xFF);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame
}

#[test]
fn sub_channels_are_told_of_and_send_frames() {
    let mut driver = Driver::ready(4);
    let mut channels = sub_channels(&mut driver, 3);
    let table = driver.next_packet();
    assert_eq!(table.kind, PacketType::DATA_INBAND);
    assert_eq!((table.word(0), table.word(1), table.word(2)), (134, 16, 40));
    assert_eq!(table.payload[40..56], words(&[0, 1, 2, 3]));
    assert_eq!(table.payload.len(), 40 + 64);
    for (number, channel) in (1..).zip(&mut channels) {
        // All channels share the send buffer.
        let bytes = packet_message(&[number; 60]);
        let at = driver.send_pages[0] * 4096;
        let at = vm_memory::GuestAddress(at);
        vm_memory::Bytes::write_slice(&driver.guest.memory, &bytes, at).unwrap();
        let message = words(&[107, 0, 0, bytes.len() as u32]);
        let parts = [&message[..]];
        let packet = OutgoingPacket::in_band(7, &parts).with_completion();
        channel.send(&driver.guest, &packet);
        let got = wait_for("a completion", || try_packet(channel, &driver.guest));
        assert_eq!((got.kind, got.transaction, got.word(1)), (PacketType::COMP, 7, 1));
        let frame = driver.peer.receive(Duration::from_secs(10));
        assert_eq!(frame, Some(vec![number; 60]));
    }
}

#[test]
fn flows_are_spread_on_channels_and_stay_there() {
    let mut driver = Driver::ready(2);
    let mut channel = sub_channels(&mut driver, 1).remove(0);
    driver.next_packet();
    set_rss(&mut driver, &[0, 1, 0, 1]);
    let mut of_port = std::collections::BTreeMap::new();
    let mut counts = [0, 0];
    for round in 0..2 {
        for port in 0..40 {
            driver.peer.send(&flow(port)).unwrap();
            let (index, got) = wait_for("a frame", || {
                let first = driver.try_packet().map(|got| (0, got));
                first.or_else(|| Some((1, try_packet(&mut channel, &driver.guest)?)))
            });
            let message = driver.range(got.ranges[0]);
            // The hash comes beside the frame.
            assert_eq!((word(&message, 12), word(&message, 14) % 2), (8, index));
            let completion = words(&[108, 1]);
            let parts = [&completion[..]];
            let completion = OutgoingPacket::completion(got.transaction, &parts);
            match index {
                0 => driver.channel.send(&driver.guest, &completion),
                _ => channel.send(&driver.guest, &completion),
            }
            assert_eq!(*of_port.entry(port).or_insert(index), index, "in round {round}");
            counts[index as usize] += 1;
        }
    }
    assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
}

#[test]
fn a_channel_that_does_not_answer_costs_the_others_nothing() {
    let mut driver = Driver::ready(2);
    let mut channel = sub_channels(&mut driver, 1).remove(0);
    driver.next_packet();
    set_rss(&mut driver, &[1]);
    // The sub-channel takes nothing; 71 parts are its share.
    for port in 0..500 {
        driver.peer.send(&flow(port)).unwrap();
    }
    wait_for("drops", || {
        let counts = driver.card.counts();
        (counts.rx_frames == 71 && counts.rx_no_buffer == 429).then_some(())
    });
    set_rss(&mut driver, &[0]);
    driver.peer.send(&flow(1)).unwrap();
    assert_eq!(driver.frames(1).len(), 1);
    assert!(try_packet(&mut channel, &driver.guest).is_some());
    // When it closes, its parts are free again.
    channel.close(&driver.guest);
    for port in 0..140 {
        driver.peer.send(&flow(port)).unwrap();
    }
    driver.frames(140);
}

#[test]
fn a_sub_channel_is_no_place_for_setting_up() {
    let mut driver = Driver::ready(2);
    let mut channel = sub_channels(&mut driver, 1).remove(0);
    driver.next_packet();
    let message = words(&[101, driver.receive_gpadl, 1, 0]);
    channel.send(&driver.guest, &OutgoingPacket::in_band(7, &[&message]).with_completion());
    driver.expect_end();
    // The primary channel goes on.
    driver.peer.send(&[0xFF; 60]).unwrap();
    assert_eq!(driver.frames(1), [[0xFF; 60]]);
}

#[test]
fn control_messages_on_a_sub_channel_are_refused() {
    let mut driver = Driver::ready(2);
    let mut channel = sub_channels(&mut driver, 1).remove(0);
    driver.next_packet();
    let message = words(&[107, 1, u32::MAX, 0]);
    for _ in 0..2 {
        channel.send(&driver.guest, &OutgoingPacket::in_band(7, &[&message]).with_completion());
        let got = wait_for("a completion", || try_packet(&mut channel, &driver.guest));
        assert_eq!((got.word(0), got.word(1)), (108, 2));
    }
}
