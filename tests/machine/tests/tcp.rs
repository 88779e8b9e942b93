//! TCP between two cards of one machine: the guest's drivers and a stack on each, over the host's cards and its switch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hypervisor_host::net::switch::Switch;
use hypervisor_host::vmbus::{ServerOptions, VmbusDevice};
use hypervisor_host::vsp::netvsp::{NetVsp, NetVspOptions};
use in_process::run::block_on_within;
use in_process::{InProcessHal, Machine};
use vsc_drivers::netvsc::smoltcp::NetDevice;
use vsc_drivers::netvsc::{NetOptions, NetVsc, Statistics};
use vsc_drivers::task::{beside, both};
use vsc_drivers::{BusOptions, Offer, Vmbus};

use self::stack::{Stack, bytes_each_way};

mod stack;

/// Each way; the soak of 1 GiB by `ENL_TCP_MEBIBYTES=1024`.
const MEBIBYTES: usize = 8;
const LIMIT: Duration = Duration::from_secs(600);

/// Bytes of each of TCP's buffers.
const BUFFER_BYTES: usize = 512 << 10;

fn end(net: &NetVsc<InProcessHal>, seed: u8) -> Stack<NetDevice<InProcessHal>> {
    Stack::new(NetDevice::new(net.clone()), NetDevice::flush, net.mac(), seed, BUFFER_BYTES)
}

fn is_done<D>(stack: &Stack<D>, bytes: usize) -> bool {
    stack.received == bytes && stack.sent == bytes
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
            let (mut client, mut server) = (end(&one, 1), end(&other, 2));
            server.listen();
            client.connect(2);
            while !(is_done(&client, bytes) && is_done(&server, bytes)) {
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
    let bytes = bytes_each_way(MEBIBYTES);
    for statistics in transfer(1, bytes) {
        println!("{statistics}");
        assert_eq!((statistics.malformed, statistics.transmit_drops), (0, 0));
    }
    println!("{} MiB each way in {:?}", bytes >> 20, begun.elapsed());
}

#[test]
fn tcp_loses_nothing_on_four_channels() {
    for statistics in transfer(4, bytes_each_way(MEBIBYTES)) {
        println!("{statistics}");
        assert_eq!((statistics.malformed, statistics.transmit_drops), (0, 0));
    }
}
