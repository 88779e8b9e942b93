use hv_abi::pci::PciStatus;
use hv_abi::tulip::csr::{BusMode, Mode, Status};
use hv_abi::tulip::descriptor::{CHAINED, END_OF_RING, RX_DE};

use super::*;

const NOWHERE: u32 = 0xF000_0000;

/// What is left after a bus error.
fn assert_dead(desk: &mut Desk) {
    assert!(desk.events().contains(Status::FBE));
    assert_eq!(desk.read(5) & Status::EB_MASK, 1 << Status::EB_SHIFT, "master abort");
    assert_eq!(desk.states(), (0, 0));
    let abort = u32::from(PciStatus::RECEIVED_MASTER_ABORT.bits()) << 16;
    assert_eq!(desk.bus.read_config(SLOT, 0, 4) & abort, abort);
    assert_eq!(desk.card.chip_counts().bus_errors, 1);
    // Starting again does not help, a reset does.
    desk.write(6, (Mode::SR | Mode::ST).bits());
    desk.turn();
    assert_eq!(desk.states(), (0, 0));
    desk.write(0, BusMode::SWR.bits());
    assert_eq!(desk.read(5), Status::RESET);
}

#[test]
fn a_transmit_descriptor_outside_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    desk.write(4, NOWHERE);
    desk.write(1, 0);
    desk.turn();
    assert_dead(&mut desk);
}

#[test]
fn a_receive_descriptor_outside_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    desk.write(3, NOWHERE);
    desk.write(2, 0);
    desk.turn();
    assert_dead(&mut desk);
}

#[test]
fn a_descriptor_that_hangs_over_the_end_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    let last = RAM as u32 - 4;
    desk.put(last, &OWN.to_le_bytes());
    desk.write(4, last);
    desk.write(1, 0);
    desk.turn();
    assert_dead(&mut desk);
}

#[test]
fn a_transmit_buffer_outside_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    desk.descriptor(TX_RING, TX_FS | TX_LS, &[(RAM as u32 - 10, 60)]);
    desk.write(1, 0);
    desk.turn();
    assert_eq!(desk.sent(), None);
    assert_dead(&mut desk);
}

#[test]
fn a_receive_buffer_outside_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    desk.descriptor(RX_RING, 0, &[(NOWHERE, 1536)]);
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.turn();
    assert_dead(&mut desk);
}

#[test]
fn a_setup_frame_outside_of_memory_is_a_bus_error() {
    let mut desk = Desk::started();
    desk.raw_descriptor(TX_RING, [OWN, TX_SET | 192, NOWHERE, 0]);
    desk.write(1, 0);
    desk.turn();
    assert_dead(&mut desk);
}

#[test]
fn a_setup_frame_of_another_length_changes_nothing() {
    let mut desk = Desk::started();
    for length in [0, 191, 193, 2047] {
        desk.raw_descriptor(TX_RING, [OWN, TX_SET | END_OF_RING | length, SETUP, 0]);
        desk.write(1, 0);
        desk.turn();
        assert_eq!(desk.status(TX_RING), 0x7FFF_FFFF);
    }
    desk.receive_ring(1, 1536);
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.turn();
    assert_eq!(desk.card.counts().rx_frames, 1);
}

#[test]
fn a_transmit_ring_of_one_that_loops_on_itself_ends() {
    let mut desk = Desk::started();
    for control in [END_OF_RING, CHAINED] {
        desk.raw_descriptor(TX_RING, [OWN, control | TX_FS | 64, BUFFERS, TX_RING]);
        desk.write(1, 0);
        assert!(!desk.turn().more);
        assert_eq!(desk.status(TX_RING), 0);
    }
}

#[test]
fn a_receive_descriptor_that_leads_to_itself_cuts_the_frame() {
    let mut desk = Desk::started();
    for control in [END_OF_RING, CHAINED] {
        desk.raw_descriptor(RX_RING, [OWN, control | 16, BUFFERS, RX_RING]);
        desk.write(2, 0);
        desk.peer.send(&frame(MAC, 60)).unwrap();
        desk.turn();
        assert_eq!(desk.status(RX_RING) & (OWN | RX_DE), RX_DE);
    }
}

#[test]
fn receive_descriptors_without_room_are_used_up_and_the_frame_cut() {
    let mut desk = Desk::started();
    desk.receive_ring(64, 0);
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING + 16 * 63) & (OWN | RX_DE), RX_DE);
    assert_eq!(desk.card.chip_counts().rx_descriptors, 64);
}

#[test]
fn a_buffer_over_its_own_descriptor_is_the_guests_loss() {
    let mut desk = Desk::started();
    desk.descriptor(RX_RING, END_OF_RING, &[(RX_RING, 1536)]);
    desk.peer.send(&frame(MAC, 200)).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING) >> 31, 0);
    assert_eq!(desk.card.counts().rx_frames, 1);
}

#[test]
fn frames_without_an_end_stop_the_process_after_a_while() {
    let mut desk = Desk::started();
    for index in 0..100 {
        let control = if index == 0 { TX_FS } else { 0 };
        desk.descriptor(TX_RING + 16 * index, control, &[(BUFFERS, 2047), (BUFFERS, 2047)]);
    }
    desk.write(1, 0);
    desk.turn();
    assert!(desk.events().contains(Status::TJT));
    assert_eq!(desk.states().1, 0);
}

#[test]
fn work_is_done_in_turns_however_long_a_list_is() {
    let mut desk = Desk::started();
    for index in 0..200 {
        desk.descriptor(TX_RING + 16 * index, 0, &[(BUFFERS, 0)]);
    }
    desk.write(1, 0);
    assert!(desk.turn().more);
    assert!(!desk.turn().more);
    assert_eq!(desk.status(TX_RING + 16 * 199), 0);
}

#[test]
fn a_list_may_wrap_at_four_gigabytes() {
    let mut desk = Desk::started();
    desk.write(4, 0xFFFF_FFFC);
    desk.write(1, 0);
    desk.turn();
    assert_dead(&mut desk);
}
