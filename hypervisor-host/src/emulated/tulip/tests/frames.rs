use hv_abi::tulip::csr::{Mode, Status, missed, receive_state};
use hv_abi::tulip::descriptor::{
    END_OF_RING, RX_DE, RX_ES, RX_FL_SHIFT, RX_FS, RX_FT, RX_LS, RX_MF, RX_RW, RX_TL, TX_AC, TX_DPD,
};

use super::*;
use crate::emulated::tulip::crc::check_sequence;

fn length(bytes: usize) -> u32 {
    (bytes as u32) << RX_FL_SHIFT
}

#[test]
fn a_frame_is_sent_closed_and_told_of() {
    let mut desk = Desk::started();
    let bytes = frame(MAC, 1514);
    desk.send(&bytes, 0);
    assert_eq!(desk.sent(), Some(bytes));
    assert_eq!(desk.status(TX_RING), 0);
    assert_eq!(desk.events(), Status::TI | Status::TU);
    let counts = desk.card.counts();
    assert_eq!((counts.tx_frames, counts.tx_bytes), (1, 1514));
}

#[test]
fn a_frame_without_ic_is_not_told_of() {
    let mut desk = Desk::started();
    desk.put(BUFFERS, &frame(MAC, 60));
    desk.descriptor(TX_RING, TX_FS | TX_LS, &[(BUFFERS, 60)]);
    desk.write(1, 0);
    desk.turn();
    assert!(desk.sent().is_some());
    assert_eq!(desk.events(), Status::TU);
}

#[test]
fn short_frames_are_padded_unless_the_guest_says_no() {
    let mut desk = Desk::started();
    desk.send(&frame(MAC, 20), 0);
    let mut padded = frame(MAC, 20);
    padded.resize(60, 0);
    assert_eq!(desk.sent(), Some(padded));
    desk.send(&frame(MAC, 20), TX_DPD);
    assert_eq!(desk.sent(), None);
    assert_eq!(desk.card.counts().tx_invalid, 1);
}

#[test]
fn a_check_sequence_of_the_guests_is_taken_off_if_it_is_right() {
    let mut desk = Desk::started();
    let bytes = frame(MAC, 100);
    let mut with = bytes.clone();
    with.extend(check_sequence(&bytes));
    desk.send(&with, TX_AC);
    assert_eq!(desk.sent(), Some(bytes));
    with[50] ^= 1;
    desk.send(&with, TX_AC);
    assert_eq!(desk.sent(), None);
}

#[test]
fn no_network_takes_a_frame_that_is_too_long_unless_it_has_a_tag() {
    let mut desk = Desk::started();
    desk.send(&frame(MAC, 1515), 0);
    assert_eq!((desk.sent(), desk.status(TX_RING)), (None, 0));
    let mut tagged = frame(MAC, 1518);
    tagged[12..14].copy_from_slice(&[0x81, 0x00]);
    desk.send(&tagged, 0);
    assert_eq!(desk.sent(), Some(tagged));
}

#[test]
fn the_transmit_watchdog_stops_the_process() {
    let mut desk = Desk::started();
    desk.descriptor(TX_RING, TX_FS, &[(BUFFERS, 2000), (BUFFERS, 1000)]);
    desk.descriptor(TX_RING + 16, TX_LS, &[(BUFFERS, 251)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!(desk.status(TX_RING), 0);
    assert_eq!(desk.status(TX_RING + 16), 0xC000);
    assert!(desk.events().contains(Status::TJT));
    assert_eq!(desk.states().1, 0);
    assert_eq!(desk.sent(), None);
}

#[test]
fn the_parts_of_a_frame_may_lie_anywhere() {
    let mut desk = Desk::started();
    let bytes = frame(MAC, 300);
    desk.put(BUFFERS + 3, &bytes[..100]);
    desk.put(BUFFERS + 0x801, &bytes[100..150]);
    desk.put(BUFFERS + 0x1000, &bytes[150..]);
    desk.descriptor(TX_RING, TX_FS, &[(BUFFERS + 3, 100), (BUFFERS + 0x801, 50)]);
    // In a chained descriptor, the second size counts for nothing.
    let far = TX_RING + 0x400;
    chained(&desk, TX_RING + 16, 0x7FF << BUFFER2_SHIFT, (BUFFERS, 0), far);
    desk.descriptor(far, TX_LS | END_OF_RING, &[(BUFFERS + 0x1000, 150)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!(desk.sent(), Some(bytes));
    assert_eq!(desk.card.chip_counts().tx_descriptors, 4, "one was the setup frame's");
}

#[test]
fn a_frame_whose_end_comes_late_is_sent_when_it_is_there() {
    let mut desk = Desk::started();
    let bytes = frame(MAC, 200);
    desk.put(BUFFERS, &bytes);
    desk.descriptor(TX_RING, TX_FS, &[(BUFFERS, 100)]);
    desk.descriptor(TX_RING + 16, 0, &[]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!((desk.sent(), desk.events()), (None, Status::TU));
    desk.descriptor(TX_RING + 16, TX_LS, &[(BUFFERS + 100, 100)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!(desk.sent(), Some(bytes));
}

#[test]
fn descriptors_between_frames_are_passed_over() {
    let mut desk = Desk::started();
    let bytes = frame(MAC, 60);
    desk.put(BUFFERS, &bytes);
    desk.descriptor(TX_RING, 0, &[(0, 0)]);
    desk.descriptor(TX_RING + 16, TX_FS | TX_LS, &[(BUFFERS, 60)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!((desk.status(TX_RING), desk.sent()), (0, Some(bytes)));
}

#[test]
fn automatic_polling_finds_frames_without_a_demand() {
    let mut desk = Desk::started();
    desk.write(0, 1 << 17);
    desk.write(1, 0);
    let until = desk.turn().until.unwrap();
    desk.put(BUFFERS, &frame(MAC, 60));
    desk.descriptor(TX_RING, TX_FS | TX_LS, &[(BUFFERS, 60)]);
    desk.turn();
    assert_eq!(desk.sent(), None);
    desk.now = until;
    desk.turn();
    assert!(desk.sent().is_some());
}

#[test]
fn a_ring_has_as_much_room_between_descriptors_as_csr0_says() {
    let mut desk = Desk::started();
    desk.write(0, 12 << 2);
    let bytes = frame(MAC, 60);
    desk.put(BUFFERS, &bytes);
    desk.descriptor(TX_RING, TX_FS, &[(BUFFERS, 20)]);
    desk.descriptor(TX_RING + 64, TX_LS, &[(BUFFERS + 20, 40)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!(desk.sent(), Some(bytes));
}

#[test]
fn a_frame_is_received_with_its_check_sequence() {
    let mut desk = Desk::started();
    desk.receive_ring(2, 1536);
    let bytes = frame(MAC, 100);
    desk.peer.send(&bytes).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING), length(104) | RX_FS | RX_LS | RX_FT);
    let mut expected = bytes.clone();
    expected.extend(check_sequence(&bytes));
    assert_eq!(desk.get(BUFFERS, 104), expected);
    assert_eq!(desk.events(), Status::RI);
    assert_eq!(desk.states().0, receive_state::WAITING);
}

#[test]
fn short_and_addressed_to_many_shows_in_the_status() {
    let mut desk = Desk::started();
    desk.receive_ring(2, 1536);
    let mut bytes = frame(BROADCAST, 20);
    bytes[12..14].copy_from_slice(&[0x05, 0xDC]);
    desk.peer.send(&bytes).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING), length(64) | RX_FS | RX_LS | RX_MF);
}

#[test]
fn a_frame_may_take_several_descriptors() {
    let mut desk = Desk::started();
    for index in 0..3 {
        let at = BUFFERS + 0x100 * index;
        desk.descriptor(RX_RING + 16 * index, 0, &[(at, 40), (at + 0x80, 24)]);
    }
    let bytes = frame(MAC, 146);
    desk.peer.send(&bytes).unwrap();
    desk.turn();
    let statuses = [0, 16, 32].map(|offset| desk.status(RX_RING + offset));
    assert_eq!(statuses, [RX_FS, 0, length(150) | RX_LS | RX_FT]);
    let parts = (0..3).flat_map(|index| {
        let at = BUFFERS + 0x100 * index;
        [desk.get(at, 40), desk.get(at + 0x80, 24)]
    });
    assert_eq!(parts.flatten().take(146).collect::<Vec<_>>(), bytes);
    assert_eq!(desk.events(), Status::RI | Status::RU);
}

#[test]
fn a_frame_without_a_further_descriptor_is_cut() {
    let mut desk = Desk::started();
    desk.descriptor(RX_RING, 0, &[(BUFFERS, 64)]);
    desk.descriptor(RX_RING + 16, 0, &[]);
    desk.peer.send(&frame(MAC, 100)).unwrap();
    desk.turn();
    let status = desk.status(RX_RING);
    assert_eq!(status & (RX_FS | RX_LS | RX_DE | RX_ES), RX_FS | RX_LS | RX_DE | RX_ES);
    assert!(desk.events().contains(Status::RU));
    assert_eq!(desk.card.chip_counts().cut_frames, 1);
}

#[test]
fn a_long_frame_is_marked_and_a_longer_one_is_cut() {
    let mut desk = Desk::started();
    desk.receive_ring(4, 2044);
    desk.peer.send(&frame(MAC, 1518)).unwrap();
    desk.peer.send(&frame(MAC, 3000)).unwrap();
    desk.peer.send(&frame(MAC, 5000)).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING), length(1522) | RX_FS | RX_LS | RX_FT | RX_TL | RX_ES);
    assert_eq!(desk.status(RX_RING + 16), RX_FS);
    let end = length(2048) | RX_LS | RX_FT | RX_TL | RX_RW | RX_ES;
    assert_eq!(desk.status(RX_RING + 32), end);
    assert_eq!(desk.status(RX_RING + 48) >> 31, 1, "the longest is lost in the network");
    assert!(desk.events().contains(Status::RWT));
}

#[test]
fn frames_without_a_descriptor_wait_and_then_are_missed_one_by_one() {
    let mut desk = Desk::started();
    for _ in 0..3 {
        desk.peer.send(&frame(MAC, 60)).unwrap();
    }
    let until = desk.turn().until.unwrap();
    assert_eq!(until, desk.now + Duration::from_millis(1));
    assert_eq!(desk.read(8), missed::RESET);
    desk.now = until;
    desk.turn();
    assert_eq!(desk.read(8), missed::RESET | 1);
    assert_eq!(desk.read(8), missed::RESET, "a read clears it");
    desk.receive_ring(4, 1536);
    desk.turn();
    assert_eq!(desk.card.counts().rx_frames, 2, "the process goes on by itself with a frame");
    assert_eq!(desk.states().0, receive_state::WAITING);
}

#[test]
fn the_ring_goes_round() {
    let mut desk = Desk::started();
    for round in 0..3_u8 {
        desk.receive_ring(2, 1536);
        desk.write(2, 0);
        for index in 0..2 {
            let mut bytes = frame(MAC, 60);
            bytes[20] = round * 2 + index;
            desk.peer.send(&bytes).unwrap();
        }
        desk.turn();
        let bytes = [desk.get(BUFFERS + 20, 1), desk.get(BUFFERS + 0x1014, 1)].concat();
        assert_eq!(bytes, [round * 2, round * 2 + 1]);
    }
}

#[test]
fn a_chain_leads_where_it_says() {
    let mut desk = Desk::started();
    chained(&desk, RX_RING, 0, (BUFFERS, 1536), RX_RING + 0x203);
    chained(&desk, RX_RING + 0x200, 0, (BUFFERS + 0x1000, 1536), RX_RING);
    for _ in 0..2 {
        desk.peer.send(&frame(MAC, 60)).unwrap();
    }
    desk.turn();
    assert_eq!(desk.status(RX_RING + 0x200), length(64) | RX_FS | RX_LS | RX_FT);
}

#[test]
fn frames_pass_by_a_process_that_is_stopped() {
    let mut desk = Desk::started();
    desk.receive_ring(1, 1536);
    desk.write(6, Mode::ST.bits());
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING) >> 31, 1);
    assert_eq!(desk.card.counts().rx_filtered, 1);
}

#[test]
fn a_cable_that_is_out_carries_nothing() {
    let mut desk = Desk::started();
    desk.receive_ring(1, 1536);
    desk.card.set_link(false);
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.send(&frame(MAC, 60), 0);
    assert_eq!((desk.sent(), desk.status(TX_RING)), (None, 0));
    let counts = desk.card.counts();
    assert_eq!((counts.tx_dropped, counts.rx_filtered), (1, 1));
}
