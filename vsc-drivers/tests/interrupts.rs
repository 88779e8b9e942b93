//! Interrupt handlers, and code with interrupts masked, neither allocate nor free: checked by an allocator that panics.

#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hv_abi::guid::Guid;
use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;
use vsc_drivers::fake::{FakeHost, FakeOffer, Mischief, must_not_allocate};
use vsc_drivers::task::{block_on, both};
use vsc_drivers::{BusOptions, DmaBuffer, OpenParams};

struct Strict;

thread_local! {
    /// How often memory was used where it must not be; a panic here would allocate, too.
    static BROKEN: Cell<u32> = const { Cell::new(0) };
}

fn check() {
    if must_not_allocate() {
        let _ = BROKEN.try_with(|broken| broken.set(broken.get() + 1));
    }
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Strict = Strict;

#[test]
fn nothing_is_allocated_or_freed_in_an_interrupt_or_with_interrupts_masked() {
    for version in VmbusVersion::ALL {
        let host = FakeHost::new();
        let channel = host.offer(FakeOffer::new(Guid::new(1, 2, 3, 4)));
        // A flood, too.
        let options = BusOptions { inbox_bytes: 1000, ..BusOptions::default().forced(version) };
        let bus = host.bus(options);
        host.misbehave(MessageType::OPENCHANNEL, 1, Mischief::Twice);
        let device = async {
            let end = host.opened(channel).await;
            while let Some(packet) = end.receive().await {
                end.complete(&packet, &packet.payload);
            }
        };
        block_on(bus.hal(), both(bus.run(), device), async {
            bus.connect().await.unwrap();
            bus.all_offers_delivered().await.unwrap();
            let opened = bus.open(channel, &OpenParams::default()).await.unwrap();
            for number in 0..100 {
                let packet = OutgoingPacket::in_band(number, &[&[7; 3000]]);
                opened.send(&packet).await.unwrap();
                opened.wait().await.unwrap();
                while opened.try_receive(&mut [0; 4096], |_| ()).unwrap().is_some() {}
            }
            let buffer = DmaBuffer::new(bus.hal(), 100).unwrap();
            opened.share(buffer).await.unwrap().unshare().await.unwrap();
            (0..100).for_each(|_| host.deliver(&[0xFF; 240]));
            host.rescind(channel);
            opened.close().await.unwrap();
            bus.unload().await.unwrap();
        });
        assert!(bus.counts().lost_messages > 0);
    }
    assert_eq!(BROKEN.get(), 0);
}

#[test]
fn the_allocator_notices() {
    let host = FakeHost::new();
    let before = BROKEN.get();
    vsc_drivers::Hal::without_interrupts(&host.hal(), || drop(vec![1]));
    assert_eq!(BROKEN.replace(before), before + 2);
}
