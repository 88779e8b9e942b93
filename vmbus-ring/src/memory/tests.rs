#![expect(unsafe_code, reason = "makes memories of pages that it owns")]

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use hv_abi::HV_PAGE_SIZE;

use super::*;

const PAGE: u32 = HV_PAGE_SIZE as u32;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; HV_PAGE_SIZE]);

/// Pages that only the pointer reaches from now on.
struct Pages {
    base: NonNull<u8>,
    count: usize,
}

impl Pages {
    fn new(count: usize) -> Self {
        let pages = vec![Page([0; HV_PAGE_SIZE]); count].into_boxed_slice();
        let base = NonNull::new(Box::into_raw(pages).cast()).unwrap();
        Self { base, count }
    }

    fn page(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.count);
        NonNull::new(self.base.as_ptr().wrapping_add(index * HV_PAGE_SIZE)).unwrap()
    }

    fn byte(&self, index: usize) -> u8 {
        assert!(index < self.count * HV_PAGE_SIZE);
        // SAFETY: it is in the pages, and no other thread writes them.
        unsafe { self.base.as_ptr().wrapping_add(index).read() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let pages =
            core::ptr::slice_from_raw_parts_mut(self.base.as_ptr().cast::<Page>(), self.count);
        // SAFETY: that is what `new` made a pointer of.
        drop(unsafe { Box::from_raw(pages) });
    }
}

fn flat(data_pages: usize) -> FlatMemory<Pages> {
    let pages = Pages::new(data_pages + 1);
    // SAFETY: nothing else uses the pages, which the memory owns.
    unsafe { FlatMemory::new(pages.base, (data_pages + 1) * HV_PAGE_SIZE, pages) }.unwrap()
}

/// Control page and data in the given pages out of eight.
fn paged(control: usize, data: &[usize]) -> PagedMemory<Pages> {
    let pages = Pages::new(8);
    let data: Vec<_> = data.iter().map(|page| pages.page(*page)).collect();
    // SAFETY: nothing else uses the pages, which the memory owns.
    unsafe { PagedMemory::new(pages.page(control), &data, pages) }.unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8 + 1).collect()
}

fn reads_back_what_was_written(memory: &impl RingMemory) {
    let length = memory.data_len();
    for offset in [0, 1, 8, PAGE - 9, PAGE - 1, PAGE, length - 300, length - 1] {
        for size in [0, 1, 7, 8, 9, 24, 191, 192, 193, 300, 5000] {
            if offset + size > length {
                continue;
            }
            let written = pattern(size as usize);
            memory.write(0, &vec![0; length as usize]);
            memory.write(offset, &written);
            let mut all = vec![0xff; length as usize];
            memory.read(0, &mut all);
            let (offset, end) = (offset as usize, (offset + size) as usize);
            assert_eq!(all[offset..end], written, "{size} bytes at {offset}");
            assert!(all[..offset].iter().chain(&all[end..]).all(|byte| *byte == 0));
            let mut part = vec![0; size as usize];
            memory.read(offset as u32, &mut part);
            assert_eq!(part, written);
        }
    }
}

#[test]
fn every_memory_reads_back_what_was_written() {
    reads_back_what_was_written(&flat(2));
    reads_back_what_was_written(&paged(3, &[7, 1, 2, 0]));
    reads_back_what_was_written(&LocalMemory::new(3 * PAGE).unwrap());
    reads_back_what_was_written(&alloc::sync::Arc::new(LocalMemory::new(2 * PAGE).unwrap()));
}

#[test]
fn control_words_are_where_linux_has_them() {
    // `struct hv_ring_buffer`.
    let words = [
        (Control::WriteIndex, 0),
        (Control::ReadIndex, 4),
        (Control::InterruptMask, 8),
        (Control::PendingSendSize, 12),
        (Control::FeatureBits, 64),
    ];
    for (word, offset) in words {
        let memory = flat(1);
        memory.control(word).store(0x0403_0201, Ordering::Relaxed);
        let bytes: Vec<u8> = (0..4).map(|byte| memory.owner().byte(offset + byte)).collect();
        assert_eq!(bytes, [1, 2, 3, 4], "{word:?}");
        let memory = paged(2, &[1]);
        memory.control(word).store(0x0403_0201, Ordering::Relaxed);
        assert_eq!(memory.owner().byte(2 * HV_PAGE_SIZE + offset), 1, "{word:?}");
    }
}

#[test]
fn data_is_behind_the_control_page() {
    let memory = flat(1);
    memory.write(5, &[9]);
    assert_eq!(memory.owner().byte(HV_PAGE_SIZE + 5), 9);
    assert_eq!(memory.into_owner().byte(HV_PAGE_SIZE + 4), 0);
}

#[test]
fn pages_in_any_order_make_one_ring() {
    let memory = paged(0, &[5, 6, 2, 1]);
    memory.write(0, &pattern(4 * HV_PAGE_SIZE));
    let byte = |page: usize| memory.owner().byte(page * HV_PAGE_SIZE);
    let expected = pattern(4 * HV_PAGE_SIZE);
    let seen = [byte(5), byte(6), byte(2), byte(1)];
    assert_eq!(seen, [0, 1, 2, 3].map(|page| expected[page * HV_PAGE_SIZE]));
    assert_eq!(byte(0), 0);
}

#[test]
fn a_page_that_is_there_twice_is_harmless() {
    let memory = paged(1, &[4, 4]);
    memory.write(10, &[1]);
    let mut bytes = [0];
    memory.read(PAGE + 10, &mut bytes);
    assert_eq!(bytes, [1]);
}

#[test]
fn memory_that_can_be_no_ring_is_refused() {
    let pages = Pages::new(2);
    let odd = NonNull::new(pages.base.as_ptr().wrapping_add(8)).unwrap();
    let flat = |base, bytes| {
        // SAFETY: the pages outlive the memory, which is not even made.
        unsafe { FlatMemory::new(base, bytes, ()) }.map(drop)
    };
    assert_eq!(flat(odd, 2 * HV_PAGE_SIZE), Err(MemoryError::Misaligned));
    for bytes in
        [0, 1, HV_PAGE_SIZE, 2 * HV_PAGE_SIZE - 1, (1 << 30) + 2 * HV_PAGE_SIZE, usize::MAX]
    {
        assert_eq!(flat(pages.base, bytes), Err(MemoryError::Length), "{bytes}");
    }
    let paged = |control, data: &[_]| {
        // SAFETY: the pages outlive the memory, which is not even made.
        unsafe { PagedMemory::new(control, data, ()) }.map(drop)
    };
    assert_eq!(paged(odd, &[pages.base]), Err(MemoryError::Misaligned));
    assert_eq!(paged(pages.base, &[pages.base, odd]), Err(MemoryError::Misaligned));
    assert_eq!(paged(pages.base, &[]), Err(MemoryError::Length));
    assert_eq!(paged(pages.base, &vec![pages.base; (1 << 18) + 1]), Err(MemoryError::Length));
    for bytes in [0, 1, PAGE + 1, u32::MAX] {
        assert_eq!(LocalMemory::new(bytes).map(drop), Err(MemoryError::Length), "{bytes}");
    }
}

#[test]
#[should_panic(expected = "outside the ring's data")]
fn no_memory_is_touched_outside_a_ring_in_one_piece() {
    flat(1).write(PAGE - 1, &[0; 2]);
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn no_memory_is_touched_outside_a_ring_in_pages() {
    paged(0, &[1]).read(PAGE - 1, &mut [0; 2]);
}
