//! Packets and frames, as fast as they go, between marks.

#![expect(unsafe_code, reason = "many packets with one call, raw sockets")]

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Marker;

/// Bytes of a packet's payload, with which it has 1,500 bytes in all.
const PAYLOAD: usize = 1472;
/// Packets of one call.
const PACKETS_AT_ONCE: usize = 64;
/// For experiments (IEEE 802, local experimental 1).
const ETHERTYPE: u16 = 0x88B5;
/// Sizes of a frame without its check sequence.
const FRAME_BYTES: std::ops::RangeInclusive<usize> = 60..=65_536;
/// Seconds for which frames are waited for.
const PATIENCE_SECONDS: i64 = 20;

/// `packets` packets of 1,500 bytes to `address`, as fast as they go; the time in units of 100 ns.
///
/// # Errors
///
/// There is no way to the address, or there are no marks.
pub fn packets(address: &str, packets: u64) -> Result<u128> {
    let marker = Marker::find()?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("no socket")?;
    socket.connect(address).with_context(|| format!("no way to {address}"))?;
    send(&socket, 64)?;
    marker.around(|| send(&socket, packets))
}

fn send(socket: &UdpSocket, packets: u64) -> Result<()> {
    let payload = [0x55_u8; PAYLOAD];
    let mut piece = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: PAYLOAD };
    send_many(socket.as_raw_fd(), &mut piece, packets)
}

/// Sends the same bytes so often.
fn send_many(socket: RawFd, piece: &mut libc::iovec, packets: u64) -> Result<()> {
    // SAFETY: all zero is an empty message.
    let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
    let mut messages = [empty; PACKETS_AT_ONCE];
    for message in &mut messages {
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    let mut left = packets;
    while left > 0 {
        let count = left.min(PACKETS_AT_ONCE as u64) as u32;
        // SAFETY: so many messages, all of one piece, which is only read.
        let sent = unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), count, 0) };
        if sent < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) {
            // The interface's queue is full.
            std::thread::yield_now();
            continue;
        }
        let sent = u64::try_from(sent).ok().filter(|&sent| sent > 0);
        left -= sent
            .with_context(|| format!("cannot send: {}", std::io::Error::last_os_error()))?
            .min(left);
    }
    Ok(())
}

/// A network interface as a source and a sink of frames of our own type.
pub struct Interface {
    socket: OwnedFd,
    mac: [u8; 6],
}

impl Interface {
    /// Opens an interface by its name.
    ///
    /// # Errors
    ///
    /// There is none, or this may not use it.
    pub fn open(name: &str) -> Result<Self> {
        let read = |what: &str| {
            let path = format!("/sys/class/net/{name}/{what}");
            std::fs::read_to_string(&path).with_context(|| format!("no interface {name}"))
        };
        let index: i32 = read("ifindex")?.trim().parse().context("its index")?;
        let mac = parse_mac(read("address")?.trim())?;
        let protocol = ETHERTYPE.to_be();
        // SAFETY: makes a descriptor, and touches nothing of ours.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into()) };
        if fd < 0 {
            bail!("no raw socket: {}", std::io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zero is an address of nothing.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index;
        let bytes = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: an address of this many bytes, which is only read.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
        if bound != 0 {
            bail!("cannot use {name}: {}", std::io::Error::last_os_error());
        }
        let interface = Self { socket, mac };
        interface.make_room()?;
        Ok(interface)
    }

    /// Sends so many frames of so many bytes, as fast as they go.
    ///
    /// # Errors
    ///
    /// The interface takes none.
    pub fn send(&self, to: [u8; 6], bytes: usize, count: u64) -> Result<()> {
        let frame = frame(to, self.mac, bytes)?;
        let mut piece = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: bytes };
        send_many(self.socket.as_raw_fd(), &mut piece, count)
    }

    /// The type of our frames, as they carry it.
    pub const ETHER_TYPE: [u8; 2] = ETHERTYPE.to_be_bytes();

    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sends one frame.
    ///
    /// # Errors
    ///
    /// The interface does not take it.
    pub fn send_one(&self, frame: &[u8]) -> std::io::Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: so many bytes, which are only read.
        let sent = unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), 0) };
        usize::try_from(sent).map(drop).map_err(|_| std::io::Error::last_os_error())
    }

    /// The next frame that comes, if one does within `limit`.
    ///
    /// # Errors
    ///
    /// The interface is gone or down.
    pub fn receive_one(&self, limit: Duration) -> std::io::Result<Option<Vec<u8>>> {
        let fd = self.socket.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, of our own.
        let ready = unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32) };
        match ready {
            0 => return Ok(None),
            1 => {}
            _ => return Err(std::io::Error::last_os_error()),
        }
        let mut frame = vec![0; ROOM];
        // SAFETY: room for so many bytes.
        let got = unsafe { libc::recv(fd, frame.as_mut_ptr().cast(), ROOM, libc::MSG_DONTWAIT) };
        let got = usize::try_from(got).map_err(|_| std::io::Error::last_os_error())?;
        frame.truncate(got);
        Ok(Some(frame))
    }

    /// Lets a burst wait in the socket until it is read.
    fn make_room(&self) -> Result<()> {
        let room: libc::c_int = 8 << 20;
        let bytes = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: a value of this many bytes, which is only read.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast(),
                bytes,
            )
        };
        if set != 0 {
            bail!("no room for frames: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// Takes frames until there were so many of so many bytes.
    ///
    /// # Errors
    ///
    /// None comes for a while.
    pub fn receive(&self, bytes: usize, count: u64) -> Result<()> {
        let mut buffers = vec![0_u8; PACKETS_AT_ONCE * ROOM];
        let mut pieces: Vec<libc::iovec> = buffers
            .chunks_exact_mut(ROOM)
            .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: ROOM })
            .collect();
        // SAFETY: all zero is an empty message.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let mut messages = [empty; PACKETS_AT_ONCE];
        for (message, piece) in messages.iter_mut().zip(&mut pieces) {
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
        }
        self.set_patience()?;
        let mut left = count;
        while left > 0 {
            let most = PACKETS_AT_ONCE as u32;
            let fd = self.socket.as_raw_fd();
            let flags = libc::MSG_WAITFORONE;
            // SAFETY: so many messages with a buffer of their own each; no time limit is given here.
            let got = unsafe {
                libc::recvmmsg(fd, messages.as_mut_ptr(), most, flags, std::ptr::null_mut())
            };
            let got = usize::try_from(got).map_err(|_| std::io::Error::last_os_error());
            let got = got.with_context(|| format!("{left} of {count} frames did not come"))?;
            let right = messages[..got].iter().filter(|it| it.msg_len as usize == bytes);
            left = left.saturating_sub(right.count() as u64);
        }
        Ok(())
    }

    fn set_patience(&self) -> Result<()> {
        let limit = libc::timeval { tv_sec: PATIENCE_SECONDS, tv_usec: 0 };
        let bytes = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: a value of this many bytes, which is only read.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                bytes,
            )
        };
        if set != 0 {
            bail!("no time limit: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Bytes of a buffer for a frame that comes.
const ROOM: usize = 16 << 10;

fn frame(to: [u8; 6], from: [u8; 6], bytes: usize) -> Result<Vec<u8>> {
    if !FRAME_BYTES.contains(&bytes) {
        bail!(
            "{bytes} is no size of a frame; give {} to {}",
            FRAME_BYTES.start(),
            FRAME_BYTES.end()
        );
    }
    let mut frame = [&to[..], &from, &ETHERTYPE.to_be_bytes()].concat();
    frame.resize(bytes, 0x55);
    Ok(frame)
}

/// Reads `02:00:00:00:00:ee`.
///
/// # Errors
///
/// It is none.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let parts: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text:?} is no address of a card"))?;
    parts.try_into().ok().with_context(|| format!("{text:?} is no address of a card"))
}

/// Sends frames to nobody through an interface, between marks; the time in units of 100 ns.
///
/// # Errors
///
/// Those of [`Interface`], or there are no marks.
pub fn send_frames(interface: &str, to: [u8; 6], bytes: usize, count: u64) -> Result<u128> {
    let marker = Marker::find()?;
    let interface = Interface::open(interface)?;
    interface.send(to, bytes, PACKETS_AT_ONCE as u64)?;
    marker.around(|| interface.send(to, bytes, count))
}

/// Takes frames that come through an interface, between marks; the time in units of 100 ns. They must come already.
///
/// # Errors
///
/// Those of [`Interface`], or there are no marks.
pub fn receive_frames(interface: &str, bytes: usize, count: u64) -> Result<u128> {
    let marker = Marker::find()?;
    let interface = Interface::open(interface)?;
    interface.receive(bytes, PACKETS_AT_ONCE as u64)?;
    marker.around(|| interface.receive(bytes, count))
}

/// Sends frames without an end, for somebody who takes as many as he wants.
///
/// # Errors
///
/// Those of [`Interface`].
pub fn flood(interface: &str, to: [u8; 6], bytes: usize) -> Result<()> {
    let interface = Interface::open(interface)?;
    loop {
        interface.send(to, bytes, PACKETS_AT_ONCE as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_both_addresses_and_its_size() {
        let mac = parse_mac("02:00:00:00:00:ee").unwrap();
        let frame = frame(mac, [6; 6], 60).unwrap();
        assert_eq!(
            (frame.len(), &frame[..6], &frame[6..14]),
            (60, &mac[..], &[6, 6, 6, 6, 6, 6, 0x88, 0xB5][..])
        );
        assert!(super::frame(mac, mac, 59).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "02", "02:00:00:00:00", "02:00:00:00:00:00:00", "0g:00:00:00:00:00"] {
            assert!(parse_mac(text).unwrap_err().to_string().contains("no address"), "{text}");
        }
    }
}
