use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::net::checksum::verify_transport;
use crate::net::headers::Headers;
use crate::net::memory::wait_readable;
use crate::net::offload::samples::tcp4;
use crate::net::offload::{Wishes, send};

#[test]
fn names_that_are_none_are_refused_before_anything_is_opened() {
    for name in ["", "0123456789abcdef", "a/b", "a b", "é"] {
        let error = Tap::open(name).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no name of a network device"), "{error}");
    }
}

#[test]
fn a_checksum_that_the_kernel_left_out_is_filled_in() {
    let mut frame = tcp4(b"abc");
    let headers = Headers::parse(&frame).unwrap();
    crate::net::checksum::prepare_transport(&mut frame, &headers, 23);
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(finish(&mut frame, header), ReceivedChecksum::Valid);
    assert_eq!(verify_transport(&frame, &headers), Some(true));
    let outside = VnetHeader { csum_start: 100, ..header };
    assert_eq!(finish(&mut frame, outside), ReceivedChecksum::Unknown);
    let valid = VnetHeader { flags: VnetHeader::DATA_VALID, ..VnetHeader::default() };
    assert_eq!(finish(&mut frame, valid), ReceivedChecksum::Valid);
}

/// Moves this thread to a network of its own, which ends with it.
#[expect(unsafe_code, reason = "unshare is a system call")]
fn own_network() -> io::Result<()> {
    // SAFETY: it changes the network of the calling thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// A TAP device with the address 10.0.0.2, as far as this computer allows.
fn tap_with_address() -> Result<Tap, String> {
    own_network().map_err(|error| format!("no network of its own: {error}"))?;
    let tap = Tap::open("enl0").map_err(|error| error.to_string())?;
    for command in [
        "address add 10.0.0.2/24 dev enl0",
        "link set enl0 address 02:00:00:00:00:02 up",
        "neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev enl0",
    ] {
        ip(command).map_err(|error| format!("ip {command}: {error}"))?;
    }
    Ok(tap)
}

/// The next frame that is IPv4 with this protocol.
fn next_ipv4(tap: &Tap, protocol: u8) -> Option<(Vec<u8>, ReceivedChecksum)> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut buffer = vec![0; 70_000];
    while Instant::now() < deadline {
        wait_readable(tap.readiness(), Duration::from_millis(200));
        while let Some(received) = tap.receive(&mut buffer).unwrap() {
            let frame = &buffer[..received.length];
            if frame[12..14] == [8, 0] && frame[23] == protocol {
                return Some((frame.to_vec(), received.checksum));
            }
        }
    }
    None
}

/// UDP from 10.0.0.1 to 10.0.0.2, port 7.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut frame = tcp4(&[]);
    frame[23] = 17;
    frame.truncate(34);
    let length = (payload.len() + 8) as u16;
    frame.extend([0x30, 0x39, 0, 7]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend_from_slice(payload);
    frame[16..18].copy_from_slice(&(length + 20).to_be_bytes());
    frame
}

#[test]
fn the_hosts_kernel_sends_and_receives_through_a_tap_device() {
    let tap = match tap_with_address() {
        Ok(tap) => tap,
        Err(reason) => return println!("SKIP: {reason}"),
    };
    let socket = UdpSocket::bind("10.0.0.2:7").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    // The guest leaves both checksums to the card.
    let wishes = Wishes { ip_checksum: true, transport_checksum: true, mss: None };
    let sent = send(&tap, &mut udp(b"hello"), wishes, 1514).unwrap();
    assert_eq!((sent.frames, sent.lost), (1, 0));
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"hello"[..], "10.0.0.1:12345".parse().unwrap()));

    let peer: SocketAddr = "10.0.0.1:99".parse().unwrap();
    socket.send_to(b"back", peer).unwrap();
    let (frame, checksum) = next_ipv4(&tap, 17).expect("the kernel sends a frame");
    assert_eq!(&frame[42..], b"back");
    assert_eq!(checksum, ReceivedChecksum::Valid, "the kernel leaves it to us");
    let headers = Headers::parse(&frame).unwrap();
    assert_eq!(verify_transport(&frame, &headers), Some(true));
}

#[test]
fn the_hosts_kernel_takes_large_segments() {
    let tap = match tap_with_address() {
        Ok(tap) => tap,
        Err(reason) => return println!("SKIP: {reason}"),
    };
    // Nobody listens, so the kernel answers the segment with a reset, if its checksums are right.
    let mut frame = tcp4(&[5; 8000]);
    let wishes = Wishes { mss: Some(1448), ..Wishes::default() };
    let sent = send(&tap, &mut frame, wishes, 1514).unwrap();
    assert_eq!(sent.frames, 6);
    let (answer, _) = next_ipv4(&tap, 6).expect("the kernel answers");
    assert_eq!(answer[47] & 4, 4, "a reset");
}
