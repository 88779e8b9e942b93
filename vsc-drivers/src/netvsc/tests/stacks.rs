//! The driver under TCP/IP stacks: one on the adapter, one on the card's side of the wire.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use super::card::{Card, MAC, PART_BYTES, Sent, words};
use super::*;
use crate::netvsc::headers::Headers;
use crate::netvsc::smoltcp::NetDevice;
use crate::netvsc::{Verdict, VlanTag};

const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 9];
const PORT: u16 = 80;

/// The wire behind the card.
struct Wire<'a> {
    card: &'a Card,
    to_peer: VecDeque<Vec<u8>>,
    /// What stands beside frames to the guest.
    infos: Vec<u32>,
    largest: usize,
    segments: usize,
}

impl Wire<'_> {
    /// Plays the card, and takes the guest's frames from it, complete as on a real wire.
    fn carry(&mut self) {
        self.card.play();
        for sent in core::mem::take(&mut self.card.state().sent) {
            self.largest = self.largest.max(sent.frame.len());
            let frames = on_the_wire(sent);
            self.segments += frames.len();
            self.to_peer.extend(frames);
        }
    }
}

/// Does what stands beside a frame.
fn on_the_wire(sent: Sent) -> Vec<Vec<u8>> {
    let mut frame = sent.frame;
    let infos: Vec<u32> =
        sent.head[44..].as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    match infos.get(1) {
        Some(0) => {
            let headers = Headers::find(&frame).expect("a frame with checksums");
            assert_eq!(infos[3] >> 16, headers.transport_offset as u32);
            // As hardware does: the field holds the pseudo header's sum.
            let sum = ones_sum(&frame[headers.transport_offset..]);
            let at = headers.transport_offset + 16;
            frame[at..at + 2].copy_from_slice(&(!sum).to_be_bytes());
            assert!(headers.verify_checksum(&frame));
            vec![frame]
        }
        Some(2) => cut(&frame, (infos[3] & 0xF_FFFF) as usize, (infos[3] >> 20 & 0x3FF) as usize),
        _ => vec![frame],
    }
}

fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// Cuts a TCP segment over IPv4 into parts of `mss` bytes.
fn cut(frame: &[u8], mss: usize, tcp: usize) -> Vec<Vec<u8>> {
    let header_bytes = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
    let sequence = u32::from_be_bytes(*frame[tcp + 4..].first_chunk().unwrap());
    let parts: Vec<_> = frame[header_bytes..].chunks(mss).collect();
    let part = |(index, part): (usize, &&[u8])| {
        let mut whole = [&frame[..header_bytes], *part].concat();
        let length = (whole.len() - 14) as u16;
        whole[16..18].copy_from_slice(&length.to_be_bytes());
        whole[24..26].copy_from_slice(&[0, 0]);
        let checksum = !ones_sum(&whole[14..34]);
        whole[24..26].copy_from_slice(&checksum.to_be_bytes());
        let sequence = sequence.wrapping_add((index * mss) as u32);
        whole[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 != parts.len() {
            // Neither FIN nor PSH but on the last.
            whole[tcp + 13] &= !0x09;
        }
        Headers::find(&whole).unwrap().fill_checksum(&mut whole);
        whole
    };
    parts.iter().enumerate().map(part).collect()
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = PeerRx
    where
        Self: 'a;
    type TxToken<'a>
        = PeerTx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(PeerRx, PeerTx<'_>)> {
        let frame = self.to_peer.pop_front()?;
        Some((PeerRx(frame), PeerTx { card: self.card, infos: &self.infos }))
    }

    fn transmit(&mut self, _: Instant) -> Option<PeerTx<'_>> {
        let room = self.card.state().free_parts.len() > 4;
        room.then_some(PeerTx { card: self.card, infos: &self.infos })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct PeerRx(Vec<u8>);

impl phy::RxToken for PeerRx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct PeerTx<'a> {
    card: &'a Card,
    infos: &'a [u32],
}

impl phy::TxToken for PeerTx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        assert!(len + 60 <= PART_BYTES as usize);
        self.card.deliver(0, &[(frame, self.infos.to_vec())]);
        result
    }
}

/// A stack with one TCP socket.
struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Stack {
    fn new(device: &mut impl Device, mac: [u8; 6], address: u8) -> Self {
        let config = Config::new(EthernetAddress(mac).into());
        let mut interface = Interface::new(config, device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpAddress::v4(10, 0, 0, address);
            addresses.push(IpCidr::new(address, 24)).expect("room for an address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { interface, sockets, socket }
    }

    fn poll(&mut self, now: i64, device: &mut impl Device) {
        self.interface.poll(Instant::from_millis(now), device, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Sends the rest of `bytes` as far as there is room, and takes what came.
    fn exchange(&mut self, sent: &mut usize, bytes: &[u8], received: &mut Vec<u8>) {
        let socket = self.socket();
        if socket.can_send() && *sent < bytes.len() {
            *sent += socket.send_slice(&bytes[*sent..]).unwrap();
        }
        while socket.can_recv() {
            let taken = |chunk: &mut [u8]| (chunk.len(), received.extend_from_slice(chunk));
            socket.recv(taken).unwrap();
        }
    }
}

fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    core::iter::repeat_with(next).take(bytes).collect()
}

/// Sends `bytes` bytes each way through TCP; the largest frame and the number of segments that the guest sent.
fn transfer(card: &Card, bytes: usize, infos: Vec<u32>) -> (usize, usize) {
    with_bus(card, async |bus| {
        let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
        let mut device = NetDevice::new(net.clone());
        let mut wire = Wire { card, to_peer: VecDeque::new(), infos, largest: 0, segments: 0 };
        let mut guest = Stack::new(&mut device, MAC, 1);
        let mut peer = Stack::new(&mut wire, PEER, 2);
        peer.socket().listen(PORT).unwrap();
        let context = guest.interface.context();
        let socket: &mut tcp::Socket<'_> = guest.sockets.get_mut(guest.socket);
        socket.connect(context, (IpAddress::v4(10, 0, 0, 2), PORT), 49_152).unwrap();
        let (up, down) = (noise(bytes, 1), noise(bytes, 2));
        let (mut sent_up, mut sent_down) = (0, 0);
        let (mut got_up, mut got_down) = (vec![], vec![]);
        let mut now = 0;
        while got_up.len() < bytes || got_down.len() < bytes {
            now += 1;
            assert!(now < 100_000, "{} up, {} down", got_up.len(), got_down.len());
            guest.exchange(&mut sent_up, &up, &mut got_down);
            guest.poll(now, &mut device);
            device.flush();
            wire.carry();
            peer.exchange(&mut sent_down, &down, &mut got_up);
            peer.poll(now, &mut wire);
        }
        assert!(got_up == up && got_down == down, "corrupt");
        let statistics = net.statistics();
        assert_eq!((statistics.malformed, statistics.transmit_drops), (0, 0));
        assert_eq!(statistics.receive_drops, 0);
        (wire.largest, wire.segments)
    })
}

#[test]
fn two_stacks_talk_without_offloads() {
    let (largest, segments) = transfer(&Card::new(), 1 << 20, vec![]);
    assert_eq!(largest, 1514);
    assert!(segments > 700);
}

#[test]
fn two_stacks_talk_with_checksums_and_segments_left_to_the_host() {
    // TCPIP_CHKSUM_PKTINFO: tcp and ip succeeded.
    let infos = vec![16, 0, 12, 0x28];
    let (largest, segments) = transfer(&Card::new().with_offloads(), 1 << 20, infos);
    assert!(largest > 10_000, "{largest}");
    assert!(segments > 700);
}

#[test]
fn two_stacks_talk_though_the_host_says_nothing_of_checksums() {
    let (largest, _) = transfer(&Card::new().with_offloads(), 1 << 18, vec![]);
    assert!(largest > 10_000, "{largest}");
}

#[test]
fn capabilities_are_those_of_the_adapter() {
    let card = Card::new().with_offloads();
    with_net(&card, NetOptions::default(), async |net| {
        let capabilities = NetDevice::new(net.clone()).capabilities();
        assert_eq!(capabilities.max_transmission_unit, 1514);
        assert_eq!(capabilities.max_burst_size, Some(1024));
        assert!(matches!(capabilities.checksum.tcp, Checksum::None));
        assert!(matches!(capabilities.checksum.udp, Checksum::None));
        assert!(matches!(capabilities.checksum.ipv4, Checksum::Both));
        assert_eq!(capabilities.segmentation.tcpv4.map(usize::from), Some(0xF000 + 14));
        card.state().objects.insert(0x0001_0106, words(&[1400]));
        card.say(&words(&[7, 20, 0x4001_0018, 0, 0]));
        let mut changes = net.link_changes();
        while net.mtu() != 1400 {
            changes.next().await;
        }
        let capabilities = NetDevice::new(net.clone()).capabilities();
        assert_eq!(capabilities.max_transmission_unit, 1414);
    });
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let capabilities = NetDevice::new(net.clone()).capabilities();
        assert!(matches!(capabilities.checksum.tcp, Checksum::Both));
        assert!(capabilities.segmentation.tcpv4.is_none());
    });
}

/// Whether the stack's device passes a frame on.
fn passes(device: &mut NetDevice<FakeHal>, card: &Card, frame: Vec<u8>, infos: Vec<u32>) -> bool {
    card.deliver(0, &[(frame, infos)]);
    device.receive(Instant::ZERO).is_some()
}

#[test]
fn frames_with_wrong_checksums_are_not_passed_on() {
    let card = Card::new().with_offloads();
    with_net(&card, NetOptions::default(), async |net| {
        let mut device = NetDevice::new(net.clone());
        let device = &mut device;
        let mut right = tcp_frame(1, 100);
        Headers::find(&right).unwrap().fill_checksum(&mut right);
        let wrong = tcp_frame(1, 100);
        assert!(passes(device, &card, right.clone(), vec![]), "found right here");
        assert!(!passes(device, &card, wrong.clone(), vec![]), "found wrong here");
        assert!(passes(device, &card, wrong, vec![16, 0, 12, 8]), "the host says it is right");
        assert!(!passes(device, &card, right, vec![16, 0, 12, 1]), "the host says it is wrong");
        assert!(!passes(device, &card, frame(60, 1), vec![16, 0, 12, 4]), "IP header");
        assert!(passes(device, &card, frame(60, 1), vec![]), "none to check");
        assert_eq!(net.statistics().receive_drops, 3);
        assert_eq!(Verdict::default(), Verdict::Unchecked);
    });
}

#[test]
fn a_device_with_a_tag_hears_only_its_own() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let vlan = VlanTag { vlan: 7, priority: 0, drop_eligible: false };
        let tag = |vlan: u32| vec![16, 6, 12, vlan << 4];
        let mut device = NetDevice::new(net.clone()).with_vlan(vlan);
        assert!(passes(&mut device, &card, frame(60, 1), tag(7)));
        assert!(!passes(&mut device, &card, frame(60, 1), tag(8)));
        assert!(!passes(&mut device, &card, frame(60, 1), vec![]));
        let mut plain = NetDevice::new(net.clone());
        assert!(passes(&mut plain, &card, frame(60, 1), vec![]));
        assert!(passes(&mut plain, &card, frame(60, 1), tag(0)), "a priority only");
        assert!(!passes(&mut plain, &card, frame(60, 1), tag(7)));
    });
}

#[cfg(feature = "embassy")]
#[test]
fn the_embassy_driver_moves_frames_and_follows_the_link() {
    use core::future::poll_fn;
    use core::task::Poll;

    use embassy_net_driver::{Driver, HardwareAddress, LinkState, RxToken, TxToken};

    use crate::netvsc::embassy::NetDriver;

    let card = Card::new().with(|state| state.echo = true);
    with_net(&card, NetOptions::default(), async |net| {
        let mut driver = NetDriver::new(net.clone());
        assert!(matches!(driver.hardware_address(), HardwareAddress::Ethernet(MAC)));
        let capabilities = driver.capabilities();
        assert_eq!(capabilities.max_transmission_unit, 1514);
        assert_eq!(capabilities.max_burst_size, Some(1024));
        poll_fn(|context| {
            let token = driver.transmit(context).expect("room");
            token.consume(300, |bytes| bytes.copy_from_slice(&frame(300, 5)));
            Poll::Ready(())
        })
        .await;
        let received = poll_fn(|context| {
            let tokens = driver.receive(context);
            let frame = tokens.map(|(token, _)| token.consume(|bytes| bytes.to_vec()));
            frame.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        assert_eq!(received, frame(300, 5));
        card.say(&words(&[7, 20, 0x4001_000C, 0, 0]));
        poll_fn(|context| match driver.link_state(context) {
            LinkState::Up => Poll::Pending,
            LinkState::Down => Poll::Ready(()),
        })
        .await;
    });
}
