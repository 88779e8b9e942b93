//! A TCP stack on a card, that sends and takes bytes which can be told from their place.

use std::time::Instant;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const PORT: u16 = 80;

/// Mebibytes each way that `ENL_TCP_MEBIBYTES` asks for, in bytes.
pub(crate) fn bytes_each_way(default_mebibytes: usize) -> usize {
    let wanted = std::env::var("ENL_TCP_MEBIBYTES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(default_mebibytes) << 20
}

/// Bytes that can be told from their place: nobody keeps a gigabyte to compare with.
fn byte_at(place: usize, seed: u8) -> u8 {
    (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0] ^ seed
}

/// One end of a connection.
pub(crate) struct Stack<D> {
    device: D,
    /// Has the card send what it was given.
    flush: fn(&D),
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    begun: Instant,
    seed: u8,
    /// Bytes given to TCP.
    pub(crate) sent: usize,
    /// Bytes taken from it.
    pub(crate) received: usize,
}

impl<D: Device> Stack<D> {
    /// On a card with this address; the end's own number is the last byte of its IP address, and tells its bytes from the peer's.
    pub(crate) fn new(
        mut device: D,
        flush: fn(&D),
        mac: [u8; 6],
        seed: u8,
        buffer_bytes: usize,
    ) -> Self {
        let config = Config::new(EthernetAddress(mac).into());
        let begun = Instant::now();
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 0, 0, seed), 24);
            addresses.push(address).expect("room for an address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; buffer_bytes]);
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { device, flush, interface, sockets, socket, begun, seed, sent: 0, received: 0 }
    }

    pub(crate) fn listen(&mut self) {
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.socket);
        socket.listen(PORT).expect("a free port");
    }

    pub(crate) fn connect(&mut self, to: u8) {
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.socket);
        let remote = (IpAddress::v4(10, 0, 0, to), PORT);
        socket.connect(self.interface.context(), remote, 49_152).expect("an unused socket");
    }

    /// Moves what can be moved.
    pub(crate) fn step(&mut self, bytes: usize, peer: u8) {
        let now = smoltcp::time::Instant::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        (self.flush)(&self.device);
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.socket);
        while socket.can_send() && self.sent < bytes {
            let (sent, seed) = (self.sent, self.seed);
            let fill = |room: &mut [u8]| {
                let count = room.len().min(bytes - sent);
                for (at, byte) in room.iter_mut().take(count).enumerate() {
                    *byte = byte_at(sent + at, seed);
                }
                (count, count)
            };
            self.sent += socket.send(fill).expect("an open socket");
        }
        while socket.can_recv() {
            let received = self.received;
            let check = |data: &mut [u8]| {
                for (at, byte) in data.iter().enumerate() {
                    assert_eq!(*byte, byte_at(received + at, peer), "corrupt at {}", received + at);
                }
                (data.len(), data.len())
            };
            self.received += socket.recv(check).expect("an open socket");
        }
    }
}
