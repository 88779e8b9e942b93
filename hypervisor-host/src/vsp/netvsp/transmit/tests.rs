use std::time::Duration;

use hv_abi::rndis::packet_info::VlanTag;
use proptest::prelude::*;

use super::super::settings::Settings;
use super::*;
use crate::net::backend::Offloads;
use crate::net::checksum::verify_transport;
use crate::net::headers::Headers;
use crate::net::mac::MacAddress;
use crate::net::memory::pair;
use crate::net::offload::samples::tcp4;

/// A packet message as Linux makes it.
fn message(frame: &[u8], infos: &[(u32, u32)]) -> Vec<u8> {
    let infos: Vec<u32> = infos.iter().flat_map(|&(kind, value)| [16, kind, 12, value]).collect();
    let info_bytes = infos.len() as u32 * 4;
    let (data, all) = (36 + info_bytes, 44 + info_bytes + frame.len() as u32);
    let head = [1, all, data, frame.len() as u32, 0, 0, 0, 36, info_bytes, 0, 0];
    let words = head.into_iter().chain(infos);
    [words.flat_map(u32::to_le_bytes).collect(), frame.to_vec()].concat()
}

fn transmit(bytes: Vec<u8>) -> Transmit {
    let mut transmit = Transmit::new(super::super::test_memory::memory());
    transmit.put(&bytes);
    transmit
}

/// What the network gets of some bytes from the guest.
fn sent(bytes: Vec<u8>) -> (Result<(), NvspStatus>, Vec<Vec<u8>>, Counters) {
    let (card, peer) = pair(Offloads::empty()).unwrap();
    let settings = Settings::new(MacAddress::of_card(0), 1500);
    let counters = Counters::default();
    let result =
        transmit(bytes).messages(|_, message| send_frame(&card, &counters, &settings, message));
    let frames = std::iter::from_fn(|| peer.receive(Duration::ZERO)).collect();
    (result, frames, counters)
}

#[test]
fn several_messages_in_one_packet_are_sent_in_order() {
    let padded = |byte, length: usize| {
        let mut message = message(&vec![byte; length], &[]);
        let all = message.len().next_multiple_of(8);
        message.resize(all, 0);
        message[4..8].copy_from_slice(&(all as u32).to_le_bytes());
        message
    };
    let bytes = [padded(1, 61), padded(2, 70), message(&[3; 1514], &[])].concat();
    let (result, frames, counters) = sent(bytes);
    assert_eq!(result, Ok(()));
    assert_eq!(frames, [vec![1; 61], vec![2; 70], vec![3; 1514]]);
    let counts = counters.read();
    assert_eq!((counts.tx_frames, counts.tx_bytes), (3, 61 + 70 + 1514));
}

#[test]
fn tags_beside_the_frame_go_into_it() {
    let frame = tcp4(b"abc");
    let (_, frames, _) = sent(message(&frame, &[(6, VlanTag::from_tci(0xB123).0)]));
    let mut expected = frame;
    expected.splice(12..12, [0x81, 0, 0xB1, 0x23]);
    assert_eq!(frames, [expected]);
    // With a tag the longest frame may be longer, beside it or in it.
    let (_, frames, _) = sent(message(&[0; 1514], &[(6, 0x10)]));
    assert_eq!(frames[0].len(), 1518);
    let mut tagged = vec![0; 1518];
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(sent(message(&tagged, &[])).1.len(), 1);
}

#[test]
fn checksums_and_large_sends_are_done() {
    let (_, frames, _) = sent(message(&tcp4(b"abc"), &[(0, TxChecksum::new(0x15, 34).0)]));
    let headers = Headers::parse(&frames[0]).unwrap();
    assert_eq!(verify_transport(&frames[0], &headers), Some(true));
    let tagged = [(6, 0x10), (2, LargeSend::new(1000, 34, false).0)];
    let (_, frames, counters) = sent(message(&tcp4(&[7; 2500]), &tagged));
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1058, 1058, 558]);
    assert_eq!((counters.read().tx_large, counters.read().tx_frames), (1, 3));
}

#[test]
fn frames_that_are_none_are_counted_and_not_sent() {
    for (frame, infos) in [
        (vec![0; 1515], vec![]),
        (vec![0; 13], vec![]),
        (vec![0; 13], vec![(6, 1)]),
        (vec![0; 100], vec![(0, 5)]),
        (vec![0; 100], vec![(2, 0x4220_05A8)]),
    ] {
        let (result, frames, counters) = sent(message(&frame, &infos));
        assert_eq!((result, frames.len(), counters.read().tx_invalid), (Ok(()), 0, 1));
    }
}

#[test]
fn a_malformed_message_ends_its_packet() {
    let mut bad = message(&[9; 60], &[]);
    bad[8] = 0xFF;
    let bytes = [message(&[1; 60], &[]), bad, message(&[2; 60], &[])].concat();
    let (result, frames, _) = sent(bytes);
    assert_eq!(result, Err(NvspStatus::INVALID_RNDIS_PKT));
    assert_eq!(frames, [vec![1; 60]]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((0_usize..140, any::<u8>()), 0..10),
        value: u32,
        kind in 0_u32..9,
        repeat in 1_usize..3,
    ) {
        let mut bytes = message(&tcp4(&[1; 30]), &[(kind, value), (6, value)]).repeat(repeat);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _ = sent(bytes);
    }
}
