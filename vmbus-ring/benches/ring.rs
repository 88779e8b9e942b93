//! What it costs to move packets through the ring, one thread being both ends: beside two copies of the same bytes, another
//! ring between two ends (`rtrb`), and a virtqueue (`virtio-queue`, with a driver as small as can be).
//!
//! One iteration is one packet: into the ring and out of it into a buffer. All move over as much memory.

#![expect(unsafe_code, reason = "makes a ring of pages that it owns")]

use std::hint::black_box;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmbus_ring::{FlatMemory, OutgoingPacket, PagedMemory, RingMemory, RingReceiver, RingSender};

const PAGE: usize = 4096;
/// As much as Linux gives a ring of its disk driver by default (`storvsc_ringbuffer_size`).
const DATA_PAGES: usize = 32;
const DATA: usize = DATA_PAGES * PAGE;
/// Packets in a batch.
const BATCH: u64 = 16;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; PAGE]);

/// Pages that live as long as the process.
fn pages(count: usize) -> NonNull<u8> {
    NonNull::from(vec![Page([0; PAGE]); count].leak()).cast()
}

fn flat() -> FlatMemory<()> {
    // SAFETY: the pages live as long as the process, and only the ring uses them.
    unsafe { FlatMemory::new(pages(DATA_PAGES + 1), DATA + PAGE, ()) }.expect("whole pages")
}

/// A ring whose pages lie in pairs, and the pairs in no order.
fn scattered() -> PagedMemory<()> {
    let base = pages(DATA_PAGES + 1);
    let page = |index: usize| {
        NonNull::new(base.as_ptr().wrapping_add(index * PAGE)).expect("in the allocation")
    };
    let data: Vec<_> = (0..DATA_PAGES).map(|index| page(1 + (index ^ 6))).collect();
    // SAFETY: the pages live as long as the process, and only the ring uses them.
    unsafe { PagedMemory::new(base, &data, ()) }.expect("whole pages")
}

/// Moves `packets` in batches through a ring in `memory`; says how long it took.
fn ring(memory: &impl RingMemory, payload: &[u8], batch: u64, packets: u64) -> Duration {
    let mut sender = RingSender::new(memory).expect("a ring");
    let mut receiver = RingReceiver::new(memory).expect("a ring");
    let slices = [payload];
    let packet = OutgoingPacket::in_band(1, &slices).with_completion();
    let mut buffer = vec![0; payload.len()];
    let start = Instant::now();
    let mut left = packets;
    while left > 0 {
        let now = left.min(batch);
        let mut batch = sender.batch();
        for _ in 0..now {
            batch.push(black_box(&packet)).expect("room");
        }
        let _ = black_box(batch.publish());
        for _ in 0..now {
            black_box(receiver.receive(&mut buffer).expect("a ring"));
        }
        let _ = black_box(receiver.release());
        left -= now;
    }
    start.elapsed()
}

/// Copies into a buffer and out of it, one place after the other.
fn memcpy(payload: &[u8], packets: u64) -> Duration {
    let mut area = vec![0u8; DATA];
    let mut buffer = vec![0; payload.len()];
    let mut at = 0;
    let start = Instant::now();
    for _ in 0..packets {
        let place = &mut area[at..at + payload.len()];
        black_box(&mut *place).copy_from_slice(black_box(payload));
        black_box(&mut buffer[..]).copy_from_slice(place);
        at += payload.len();
        if at + payload.len() > DATA {
            at = 0;
        }
    }
    start.elapsed()
}

fn rtrb(payload: &[u8], packets: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<u8>::new(DATA);
    let mut buffer = vec![0; payload.len()];
    let start = Instant::now();
    for _ in 0..packets {
        let mut chunk = producer.write_chunk(payload.len()).expect("room");
        let (first, second) = chunk.as_mut_slices();
        let (before, behind) = black_box(payload).split_at(first.len());
        first.copy_from_slice(before);
        second.copy_from_slice(behind);
        chunk.commit_all();
        let chunk = consumer.read_chunk(payload.len()).expect("bytes");
        let (first, second) = chunk.as_slices();
        let (before, behind) = buffer.split_at_mut(first.len());
        before.copy_from_slice(first);
        behind.copy_from_slice(second);
        chunk.commit_all();
        black_box(&mut buffer);
    }
    start.elapsed()
}

/// Where what is in the guest that the virtqueue lies in.
mod guest {
    pub(super) const DESCRIPTORS: u64 = 0x1000;
    pub(super) const AVAILABLE: u64 = 0x2000;
    pub(super) const USED: u64 = 0x3000;
    pub(super) const BUFFERS: u64 = 0x10000;
    pub(super) const ENTRIES: u16 = 32;
}

/// The driver fills a buffer, the device takes it out of the queue, copies it and gives it back, and the driver sees that. Layouts
/// are those of a split virtqueue (virtio 1.2, §2.7).
fn virtqueue(payload: &[u8], packets: u64) -> Duration {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("RAM");
    let mut queue = Queue::new(guest::ENTRIES).expect("a size");
    queue.set_desc_table_address(Some(guest::DESCRIPTORS as u32), None);
    queue.set_avail_ring_address(Some(guest::AVAILABLE as u32), None);
    queue.set_used_ring_address(Some(guest::USED as u32), None);
    queue.set_ready(true);
    assert!(queue.is_valid(&memory));
    let mut buffer = vec![0; payload.len()];
    let mut index = 0u16;
    let start = Instant::now();
    for _ in 0..packets {
        let slot = index % guest::ENTRIES;
        offer(&memory, black_box(payload), slot, &mut index);
        let chain = queue.pop_descriptor_chain(&memory).expect("what was offered");
        let head = chain.head_index();
        for descriptor in chain {
            let bytes = &mut buffer[..descriptor.len() as usize];
            memory.read_slice(bytes, descriptor.addr()).expect("in the guest");
        }
        queue.add_used(&memory, head, 0).expect("in the guest");
        let used: u16 = memory.read_obj(GuestAddress(guest::USED + 2)).expect("in the guest");
        assert_eq!(used, index);
        black_box(&mut buffer);
    }
    start.elapsed()
}

/// The driver's part.
fn offer(memory: &GuestMemoryMmap, payload: &[u8], slot: u16, index: &mut u16) {
    let at = guest::BUFFERS + u64::from(slot) * PAGE as u64;
    memory.write_slice(payload, GuestAddress(at)).expect("in the guest");
    let descriptor = [at, payload.len() as u64];
    let entry = guest::DESCRIPTORS + u64::from(slot) * 16;
    memory.write_obj(descriptor, GuestAddress(entry)).expect("in the guest");
    let entry = guest::AVAILABLE + 4 + u64::from(slot) * 2;
    memory.write_obj(slot, GuestAddress(entry)).expect("in the guest");
    *index = index.wrapping_add(1);
    let order = std::sync::atomic::Ordering::Release;
    memory.store(*index, GuestAddress(guest::AVAILABLE + 2), order).expect("in the guest");
}

fn all(mut group: BenchmarkGroup<'_, WallTime>, bytes: usize) {
    let payload = vec![0x5a; bytes];
    let (flat, scattered) = (flat(), scattered());
    group.throughput(Throughput::Bytes(bytes as u64));
    let mut bench = |name, moves: &dyn Fn(u64) -> Duration| {
        group.bench_function(name, |bencher| bencher.iter_custom(moves));
    };
    bench("vmbus-ring", &|packets| ring(&flat, &payload, 1, packets));
    bench("vmbus-ring-batch", &|packets| ring(&flat, &payload, BATCH, packets));
    bench("vmbus-ring-scattered", &|packets| ring(&scattered, &payload, 1, packets));
    bench("memcpy", &|packets| memcpy(&payload, packets));
    bench("rtrb", &|packets| rtrb(&payload, packets));
    bench("virtio-queue", &|packets| virtqueue(&payload, packets));
    group.finish();
}

fn packets(criterion: &mut Criterion) {
    all(criterion.benchmark_group("ring-8"), 8);
    all(criterion.benchmark_group("ring-512"), 512);
    all(criterion.benchmark_group("ring-4096"), 4096);
}

criterion_group!(benches, packets);
criterion_main!(benches);
