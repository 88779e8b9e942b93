//! TCP between two cards of one machine: the guest's drivers and a stack on each, over the host's cards and its switch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hypervisor_host::net::switch::Switch;
use hypervisor_host::vmbus::{ServerOptions, VmbusDevice};
use hypervisor_host::vsp::netvsp::{NetVsp, NetVspOptions};
use in_process::run::block_on_within;
use in_process::{InProcessHal, Machine};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use vsc_drivers::netvsc::smoltcp::NetDevice;
use vsc_drivers::netvsc::{NetOptions, NetVsc, Statistics};
use vsc_drivers::task::{beside, both};
use vsc_drivers::{BusOptions, Offer, Vmbus};

const PORT: u16 = 80;
const LIMIT: Duration = Duration::from_secs(600);

/// Bytes each way; the soak of 1 GiB by `ENL_TCP_MEBIBYTES=1024`.
fn bytes_each_way() -> usize {
    let wanted = std::env::var("ENL_TCP_MEBIBYTES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(8) << 20
}

/// Bytes that can be told from their place: nobody keeps a gigabyte to compare with.
fn byte_at(place: usize, seed: u8) -> u8 {
    (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0] ^ seed
}

struct Stack {
    device: NetDevice<InProcessHal>,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    begun: Instant,
    seed: u8,
    sent: usize,
    received: usize,
}

impl Stack {
    fn new(net: NetVsc<InProcessHal>, seed: u8) -> Self {
        let mut device = NetDevice::new(net.clone());
        let config = Config::new(EthernetAddress(net.mac()).into());
        let begun = Instant::now();
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 0, 0, seed), 24);
            addresses.push(address).expect("room for an address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 512 << 10]);
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { device, interface, sockets, socket, begun, seed, sent: 0, received: 0 }
    }

    fn listen(&mut self) {
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.socket);
        socket.listen(PORT).expect("a free port");
    }

    fn connect(&mut self, to: u8) {
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.socket);
        let remote = (IpAddress::v4(10, 0, 0, to), PORT);
        socket.connect(self.interface.context(), remote, 49_152).expect("an unused socket");
    }

    /// Moves what can be moved.
    fn step(&mut self, bytes: usize, peer: u8) {
        let now = smoltcp::time::Instant::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        self.device.flush();
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

    fn is_done(&mut self, bytes: usize) -> bool {
        self.received == bytes && self.sent == bytes
    }
}

fn cards(queues: u16) -> Vec<Arc<dyn VmbusDevice>> {
    let switch = Switch::private();
    let card = |index: u16| {
        let port = switch.plug_in().expect("room in a new switch");
        let options = NetVspOptions { queues, ..NetVspOptions::new(index) };
        Arc::new(NetVsp::new(options, Box::new(port))) as Arc<dyn VmbusDevice>
    };
    vec![card(0), card(1)]
}

async fn start(bus: &Vmbus<InProcessHal>, offer: &Offer, channels: u16) -> NetVsc<InProcessHal> {
    let mut options = NetOptions::default();
    options.channels = channels;
    NetVsc::start(bus, offer.channel, options).await.expect("a card")
}

/// Sends bytes each way; what went through the two cards.
fn transfer(queues: u16, bytes: usize) -> [Statistics; 2] {
    let machine = Machine::new(ServerOptions::new(4), cards(queues));
    let bus = machine.new_bus(BusOptions::default());
    let work = async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        let offers = bus.offers();
        let one = start(&bus, &offers[0], queues).await;
        let other = beside(one.run(), start(&bus, &offers[1], queues)).await;
        assert_eq!(one.channels(), usize::from(queues));
        beside(both(one.run(), other.run()), async {
            let (mut client, mut server) =
                (Stack::new(one.clone(), 1), Stack::new(other.clone(), 2));
            server.listen();
            client.connect(2);
            while !(client.is_done(bytes) && server.is_done(bytes)) {
                client.step(bytes, 2);
                server.step(bytes, 1);
                yield_now().await;
            }
            let statistics = [one.statistics(), other.statistics()];
            one.stop().await.expect("a clean stop");
            other.stop().await.expect("a clean stop");
            statistics
        })
        .await
    };
    block_on_within(LIMIT, "the transfer", beside(bus.run(), work))
}

async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[test]
fn tcp_loses_nothing_on_one_channel() {
    let begun = Instant::now();
    let bytes = bytes_each_way();
    for statistics in transfer(1, bytes) {
        println!("{statistics}");
        assert_eq!((statistics.malformed, statistics.transmit_drops), (0, 0));
    }
    println!("{} MiB each way in {:?}", bytes >> 20, begun.elapsed());
}

#[test]
fn tcp_loses_nothing_on_four_channels() {
    for statistics in transfer(4, bytes_each_way()) {
        println!("{statistics}");
        assert_eq!((statistics.malformed, statistics.transmit_drops), (0, 0));
    }
}
