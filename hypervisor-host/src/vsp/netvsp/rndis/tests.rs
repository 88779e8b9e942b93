use proptest::prelude::*;

use super::*;

/// TCP over IPv4 as Linux's `netvsc_xmit` sends it: hash, tag and large send beside a frame of 60 bytes.
fn linux_packet() -> Vec<u8> {
    let mut message = vec![0; 44];
    let words: [(usize, u32); 6] = [(0, 1), (4, 152), (8, 84), (12, 60), (28, 36), (32, 48)];
    for (at, word) in words {
        message[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    for (kind, value) in [(8_u32, 0x1234_5678_u32), (6, 0x123D), (2, 0x4220_05A8)] {
        for word in [16, kind, 12, value] {
            message.extend(word.to_le_bytes());
        }
    }
    message.extend([0xAB; 60]);
    message
}

fn set(message: &mut [u8], at: usize, value: u32) {
    message[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_packet_of_linux_is_read() {
    let message = linux_packet();
    let tx = tx_frame(&message).unwrap();
    assert_eq!(tx.frame, 92..152);
    assert_eq!((tx.checksum, tx.vlan), (None, Some(VlanTag(0x123D))));
    assert_eq!(tx.large.map(LargeSend::mss), Some(1448));
}

#[test]
fn messages_follow_one_another() {
    let bytes = [linux_packet(), linux_packet(), vec![0; 7]].concat();
    let (kind, first) = next_message(&bytes, 0).unwrap().unwrap();
    assert_eq!((kind, first.clone()), (RndisMessageType::PACKET, 0..152));
    let (_, second) = next_message(&bytes, first.end).unwrap().unwrap();
    assert_eq!(second, 152..304);
    assert_eq!(next_message(&bytes, second.end), None);
    assert_eq!(next_message(&bytes, 5000), None);
}

#[test]
fn lengths_that_lie_are_found() {
    for length in [0, 7, 153, u32::MAX] {
        let mut bytes = linux_packet();
        set(&mut bytes, 4, length);
        assert_eq!(next_message(&bytes, 0), Some(Err(RndisError::Length)), "{length}");
    }
    assert_eq!(tx_frame(&linux_packet()[..43]), Err(RndisError::Length));
}

#[test]
fn offsets_outside_the_message_are_found() {
    for (at, value) in [
        (8, 85),       // the frame ends behind the message
        (8, u32::MAX), // it wraps around
        (12, 61),
        (12, u32::MAX),
        (8, 35), // it begins in the head
        (28, u32::MAX),
        (28, 120),
        (32, u32::MAX),
    ] {
        let mut message = linux_packet();
        set(&mut message, at, value);
        assert_eq!(tx_frame(&message), Err(RndisError::Offset), "{at} {value}");
    }
}

#[test]
fn malformed_infos_are_found() {
    for (at, value) in [
        (44, 0),  // no progress
        (44, 11), // less than a head
        (44, 17), // its successor does not begin where it ends
        (44, u32::MAX),
        (76, 12), // no room for the value
        (84, 13), // the value is cut
        (84, u32::MAX),
        (32, 47),
    ] {
        let mut message = linux_packet();
        set(&mut message, at, value);
        assert_eq!(tx_frame(&message).map(drop), Err(RndisError::Info), "{at} {value}");
    }
    // More than anybody has.
    let mut message = linux_packet();
    let infos = [16_u32, 9, 12, 0].map(u32::to_le_bytes).concat().repeat(40);
    set(&mut message, 28, 144);
    set(&mut message, 32, infos.len() as u32);
    message.extend(infos);
    let length = message.len() as u32;
    set(&mut message, 4, length);
    assert_eq!(tx_frame(&message), Err(RndisError::Info));
}

#[test]
fn a_head_for_the_guest_has_the_bytes_that_linux_reads() {
    let infos = RxInfos {
        checksum: Some(RxChecksum(RxChecksum::TCP_SUCCEEDED)),
        vlan: None,
        hash: Some(0x51CC_C178),
    };
    let (head, bytes) = rx_head(60, infos);
    let mut expected = vec![0; 44];
    for (at, word) in [(0, 1), (4, 136), (8, 68), (12, 60), (28, 36), (32, 32)] {
        set(&mut expected, at, word);
    }
    for word in [16, 0, 12, 8, 16, 8, 12, 0x51CC_C178_u32] {
        expected.extend(word.to_le_bytes());
    }
    assert_eq!(head[..bytes], expected);
    let (head, bytes) = rx_head(60, RxInfos::default());
    assert_eq!((bytes, head[28..36].to_vec()), (44, vec![0; 8]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_point_outside(
        changes in prop::collection::vec((0_usize..152, any::<u8>()), 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..153,
    ) {
        let mut message = linux_packet();
        for (at, byte) in changes {
            message[at] = byte;
        }
        message.truncate(cut);
        for bytes in [&message, &noise] {
            if let Ok(tx) = tx_frame(bytes) {
                prop_assert!(bytes.get(tx.frame).is_some());
            }
            let mut from = 0;
            while let Some(Ok((_, range))) = next_message(bytes, from) {
                prop_assert!(range.start == from && range.end > from && range.end <= bytes.len());
                from = range.end;
            }
        }
    }
}
