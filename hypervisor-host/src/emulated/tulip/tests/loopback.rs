use hv_abi::tulip::csr::Mode;
use hv_abi::tulip::descriptor::{RX_DT_EXTERNAL, RX_DT_INTERNAL, RX_DT_MASK, RX_FF};

use super::*;

#[test]
fn in_loopback_a_frame_comes_back_and_no_network_sees_it() {
    for (mode, how) in [(Mode::OM_INTERNAL, RX_DT_INTERNAL), (Mode::OM_EXTERNAL, RX_DT_EXTERNAL)] {
        let mut desk = Desk::started();
        desk.descriptor(RX_RING, 0, &[(BUFFERS + 0x1000, 1536)]);
        desk.write(6, (Mode::SR | Mode::ST | mode).bits());
        desk.send(&frame(MAC, 80), 0);
        assert_eq!(desk.sent(), None);
        assert_eq!(desk.get(BUFFERS + 0x1000, 80), frame(MAC, 80));
        assert_eq!(desk.status(RX_RING) & RX_DT_MASK, how);
    }
}

#[test]
fn receive_all_says_what_the_filter_thinks() {
    let mut desk = Desk::started();
    desk.receive_ring(2, 1536);
    desk.write(6, (Mode::SR | Mode::ST | Mode::RA).bits());
    desk.peer.send(&frame(MacAddress::of_card(1), 60)).unwrap();
    desk.peer.send(&frame(MAC, 60)).unwrap();
    desk.turn();
    assert_eq!(desk.status(RX_RING) & RX_FF, RX_FF);
    assert_eq!(desk.status(RX_RING + 16) & RX_FF, 0);
}
