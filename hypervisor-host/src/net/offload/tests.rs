use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use super::samples::{tcp4, tcp6};
use super::*;
use crate::net::checksum::verify_transport;
use crate::net::frame::Received;

/// Keeps what is sent; refuses what it cannot do.
struct Keeper {
    offloads: Offloads,
    frames: Mutex<Vec<(Vec<u8>, Pending)>>,
}

impl Keeper {
    fn new(offloads: Offloads) -> Self {
        Self { offloads, frames: Mutex::default() }
    }

    fn send(&self, frame: &mut [u8], wishes: Wishes) -> Result<Sent, InvalidFrame> {
        send(self, frame, wishes, 1514)
    }

    fn frames(&self) -> Vec<(Vec<u8>, Pending)> {
        self.frames.lock().unwrap().clone()
    }
}

impl Backend for Keeper {
    fn describe(&self) -> String {
        "a keeper".into()
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.frames.lock().unwrap().push((frame.bytes.to_vec(), frame.pending));
        Ok(())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        unreachable!("nothing is received")
    }

    fn receive(&self, _: &mut [u8]) -> io::Result<Option<Received>> {
        Ok(None)
    }
}

const LARGE: Wishes = Wishes { ip_checksum: false, transport_checksum: false, mss: Some(1000) };
const CHECKSUM: Wishes = Wishes { ip_checksum: true, transport_checksum: true, mss: None };

#[test]
fn checksums_are_filled_in_for_a_plain_back_end() {
    for mut frame in [tcp4(b"abc"), tcp6(b"abc")] {
        let keeper = Keeper::new(Offloads::empty());
        let sent = keeper.send(&mut frame, CHECKSUM).unwrap();
        assert_eq!(sent, Sent { frames: 1, bytes: frame.len() as u64, lost: 0 });
        let (bytes, pending) = keeper.frames().remove(0);
        let headers = Headers::parse(&bytes).unwrap();
        assert_eq!(verify_transport(&bytes, &headers), Some(true));
        assert_eq!(pending, Pending::default());
    }
}

#[test]
fn checksums_are_left_to_a_back_end_that_fills_them_in() {
    let keeper = Keeper::new(Offloads::CHECKSUM);
    keeper.send(&mut tcp4(b"abc"), CHECKSUM).unwrap();
    let (_, pending) = keeper.frames().remove(0);
    assert_eq!(pending.checksum, Some(PendingChecksum { start: 34, field: 16 }));
}

#[test]
fn large_segments_are_cut_or_handed_on() {
    let keeper = Keeper::new(Offloads::empty());
    let sent = keeper.send(&mut tcp4(&[1; 3000]), LARGE).unwrap();
    assert_eq!(sent, Sent { frames: 3, bytes: 3 * 1054, lost: 0 });

    let keeper = Keeper::new(Offloads::all());
    let again = keeper.send(&mut tcp4(&[1; 3000]), LARGE).unwrap();
    assert_eq!(again, sent);
    let (bytes, pending) = keeper.frames().remove(0);
    assert_eq!(bytes.len(), 3054);
    assert_eq!(pending.segment, Some(PendingSegment { ipv6: false, headers: 54, mss: 1000 }));
    assert_eq!(crate::net::checksum::sum(&bytes[14..34]), 0xFFFF, "the IPv4 header's checksum");
}

#[test]
fn frames_that_are_not_what_the_guest_says_are_refused() {
    let keeper = Keeper::new(Offloads::empty());
    for (mut frame, wishes) in [
        (vec![0; 60], CHECKSUM),
        (vec![0; 60], LARGE),
        (vec![0; 13], Wishes::default()),
        (vec![0; 1515], Wishes::default()),
        (tcp4(b"x"), Wishes { mss: Some(0), ..LARGE }),
    ] {
        assert_eq!(keeper.send(&mut frame, wishes), Err(InvalidFrame));
        let able = Keeper::new(Offloads::all());
        assert_eq!(able.send(&mut frame, wishes), Err(InvalidFrame));
    }
    assert!(keeper.frames().is_empty());
}

#[test]
fn a_tag_goes_in_and_comes_out() {
    let plain = tcp4(b"abc");
    let mut frame = plain.clone();
    assert!(insert_tag(&mut frame, 0xB123));
    assert_eq!(frame[12..18], [0x81, 0, 0xB1, 0x23, 8, 0]);
    assert_eq!((tag(&frame), tag(&plain)), (Some(0xB123), None));
    let (addresses, rest) = without_tag(&frame);
    assert_eq!([addresses, rest].concat(), plain);
    assert!(!insert_tag(&mut vec![0; 13], 1));
    assert_eq!(tag(&frame[..17]), None);
    assert_eq!(tag(&[]), None);
}
