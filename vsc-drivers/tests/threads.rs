//! Many threads, as many processors: devices and interrupts on some, drivers on others, in real time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use hv_abi::guid::Guid;
use vmbus_ring::OutgoingPacket;
use vsc_drivers::fake::{FakeHost, FakeOffer};
use vsc_drivers::task::block_on;
use vsc_drivers::{BusOptions, ChannelId, DmaBuffer, OpenParams, Vmbus};

const CHANNELS: usize = 4;
const ROUNDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 50_000 };

#[test]
fn channels_on_many_threads_lose_nothing() {
    let host = FakeHost::new();
    host.real_time();
    let interface = Guid::new(1, 2, 3, 4);
    let channels: Vec<ChannelId> =
        (0..CHANNELS).map(|_| host.offer(FakeOffer::new(interface))).collect();
    let bus = host.bus(BusOptions::default());
    block_on(bus.hal(), bus.run(), async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
    });
    let done = AtomicBool::new(false);
    let packets = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let finished = async {
                while !done.load(Ordering::SeqCst) {
                    let then = vsc_drivers::Hal::now_100ns(bus.hal()) + 10_000;
                    vsc_drivers::task::sleep_until(bus.hal(), then).await;
                }
            };
            block_on(bus.hal(), bus.run(), finished);
        });
        let drivers: Vec<_> = channels
            .iter()
            .map(|&channel| {
                let (host, bus, packets) = (&host, &bus, &packets);
                scope.spawn(move || serve(host, channel));
                scope.spawn(move || packets.fetch_add(drive(bus, channel), Ordering::SeqCst))
            })
            .collect();
        drivers.into_iter().for_each(|driver| _ = driver.join().unwrap());
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(packets.into_inner(), ROUNDS * CHANNELS as u64);
    assert_eq!(bus.counts(), Default::default());
    assert_eq!(host.pages_in_use(), 3);
}

/// Answers all packets.
fn serve(host: &FakeHost, channel: ChannelId) {
    let hal = host.hal();
    block_on(&hal, core::future::pending::<()>(), async {
        let end = host.opened(channel).await;
        while let Some(packet) = end.receive().await {
            let answer = OutgoingPacket::completion(packet.transaction_id, &[]);
            while end.try_send(&answer).is_err() {
                thread::yield_now();
            }
        }
    });
}

/// Sends packets, a few at a time, and waits for the answers.
fn drive(bus: &Vmbus<vsc_drivers::fake::FakeHal>, channel: ChannelId) -> u64 {
    let mut answered = 0;
    block_on(bus.hal(), core::future::pending::<()>(), async {
        let params = OpenParams { send_bytes: 4096, receive_bytes: 4096, ..OpenParams::default() };
        let opened = bus.open(channel, &params).await.unwrap();
        let buffer = DmaBuffer::new(bus.hal(), 60).unwrap();
        let shared = opened.share(buffer).await.unwrap();
        let mut sent = 0;
        while answered < ROUNDS {
            while sent < ROUNDS && sent - answered < 40 {
                let payload = [sent as u8; 100];
                opened.send(&OutgoingPacket::in_band(sent, &[&payload])).await.unwrap();
                sent += 1;
            }
            opened.wait().await.unwrap();
            let number = |packet: vmbus_ring::Packet<'_>| packet.transaction_id();
            while let Some(number) = opened.try_receive(&mut [0; 256], number).unwrap() {
                assert_eq!(number, answered);
                answered += 1;
            }
        }
        shared.unshare().await.unwrap();
        opened.close().await.unwrap();
    });
    answered
}
