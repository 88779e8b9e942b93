//! Frames and heap.

#![expect(unsafe_code, reason = "writes to frames")]

use alloc::boxed::Box;
use alloc::vec::Vec;

use kernel::PAGE_SIZE;
use kernel::frames::FreeError;

use super::each_vp::on_each_vp;
use super::{Problem, TestResult, check, guest_test};
use crate::machine::{heap, memory};

guest_test!(
    frames_are_distinct_memory,
    a_frame_is_taken_back_only_once,
    foreign_frames_are_not_taken_back,
    heap_keeps_what_is_put_there,
    heap_gets_everything_back,
    heap_serves_all_processors_at_once,
);

const FRAMES: usize = 32;

fn take_frames() -> Result<Vec<u64>, Problem> {
    let frames: Option<Vec<u64>> = (0..FRAMES).map(|_| memory::allocate_frame()).collect();
    frames.ok_or(Problem::Fail("there are no frames left".into()))
}

fn give_back(frame: u64) -> Result<(), FreeError> {
    memory::with_frames(|frames| frames.free(frame)).unwrap_or(Err(FreeError::Unknown))
}

fn frames_are_distinct_memory() -> TestResult {
    let frames = take_frames()?;
    for &frame in &frames {
        // SAFETY: the frame is ours and mapped one to one.
        unsafe { (frame as *mut u64).write_volatile(!frame) };
    }
    // SAFETY: as above.
    let intact = |&frame: &u64| unsafe { (frame as *const u64).read_volatile() } == !frame;
    let result = frames.iter().all(intact);
    for &frame in &frames {
        check!(give_back(frame).is_ok(), "frame {frame:#x} is not taken back");
    }
    check!(result, "two frames share memory: {frames:x?}");
    Ok(())
}

fn a_frame_is_taken_back_only_once() -> TestResult {
    let frames = take_frames()?;
    let free = || memory::with_frames(|frames| frames.free_frames());
    let before = free();
    for &frame in &frames {
        check!(give_back(frame) == Ok(()), "frame {frame:#x} is not taken back");
        let second = give_back(frame);
        check!(second == Err(FreeError::NotInUse), "freed {frame:#x} twice: {second:?}");
    }
    let expected = before.map(|before| before + FRAMES as u64);
    check!(free() == expected, "{:?} frames are free, not {expected:?}", free());
    Ok(())
}

fn foreign_frames_are_not_taken_back() -> TestResult {
    for address in [0, memory::image().start, memory::image().start + 8, u64::MAX - PAGE_SIZE + 1] {
        check!(give_back(address) == Err(FreeError::Unknown), "{address:#x} was taken back");
    }
    Ok(())
}

fn heap_keeps_what_is_put_there() -> TestResult {
    let blocks: Vec<Vec<usize>> =
        (0..64).map(|number| core::iter::repeat_n(number, 1 + number * 7 % 97).collect()).collect();
    let wrong =
        blocks.iter().zip(0..).find(|(block, number)| block.iter().any(|item| item != number));
    check!(wrong.is_none(), "a block has changed: {wrong:?}");
    #[repr(align(4096))]
    struct Page(#[expect(dead_code, reason = "only its place matters")] [u8; 4096]);
    let page = Box::new(Page([1; 4096]));
    let address = (&raw const *page).addr();
    check!(address.is_multiple_of(4096), "a page was put at {address:#x}");
    Ok(())
}

fn heap_gets_everything_back() -> TestResult {
    let (before, _) = heap::usage();
    for size in 1..200_usize {
        drop(core::hint::black_box(Vec::<u8>::with_capacity(size * 17)));
    }
    let (after, _) = heap::usage();
    check!(before == after, "{before} bytes were in use, now {after}");
    Ok(())
}

fn heap_serves_all_processors_at_once() -> TestResult {
    let wrong = on_each_vp(|index| {
        let mut wrong = 0;
        for round in 0..50_usize {
            let value = index * 1000 + round;
            let block: Vec<usize> = core::iter::repeat_n(value, 1 + round % 13).collect();
            wrong +=
                core::hint::black_box(&block).iter().filter(|&&item| item != value).count() as u64;
        }
        wrong
    });
    check!(wrong.iter().all(|&wrong| wrong == 0), "changed items by processor: {wrong:?}");
    Ok(())
}
