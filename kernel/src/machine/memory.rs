//! The kernel's memory: frames, page tables, heap.
//!
//! Virtual is physical everywhere. RAM is mapped in large pages, not executable; the image and the
//! processors' stacks in small ones with the protection that each part needs. Page 0 is not mapped.

#![expect(unsafe_code, reason = "turns physical memory into objects")]

use core::fmt;
use core::ptr::NonNull;

use kernel::PAGE_SIZE;
use kernel::boot::BootInfo;
use kernel::fixed::Full;
use kernel::frames::FrameAllocator;
use kernel::memory_map::{self, Range, Usable};
use kernel::paging::{IdentityMap, MapError, TableMemory};
use kernel::phys::{OutOfReach, PhysMemory};
use spin::mutex::SpinMutex;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

use super::stacks::{Stacks, TOTAL_PAGES};
use super::{cpu, heap};

/// What the boot page tables map.
const REACH: u64 = 1 << 32;
/// RAM beyond this is left alone.
const MAX_MANAGED: u64 = 64 << 30;
/// Below this lie the firmware's data and the processors' start-up code.
const LOW_MEMORY_END: u64 = 1 << 20;
/// RAM for each byte of heap.
const HEAP_SHARE: u64 = 16;
const HEAP_BYTES: core::ops::RangeInclusive<u64> = 512 << 10..=64 << 20;

static FRAMES: SpinMutex<Option<FrameAllocator<'static>>> = SpinMutex::new(None);
static MAP: SpinMutex<Option<IdentityMap<Tables>>> = SpinMutex::new(None);

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __boot_guard: u8;
    static __boot_stack: u8;
    static __boot_stack_top: u8;
}

fn between(start: *const u8, end: *const u8) -> Range {
    Range { start: start.addr() as u64, end: end.addr() as u64 }
}

/// The image in memory.
pub(crate) fn image() -> Range {
    between(&raw const __image_start, &raw const __image_end)
}

/// The kernel's code.
pub(crate) fn text() -> Range {
    between(&raw const __text_start, &raw const __text_end)
}

/// The kernel's constants.
pub(crate) fn rodata() -> Range {
    between(&raw const __text_end, &raw const __rodata_end)
}

/// The stack of the first instructions.
pub(crate) fn boot_stack() -> Range {
    between(&raw const __boot_stack, &raw const __boot_stack_top)
}

fn boot_guard() -> Range {
    between(&raw const __boot_guard, &raw const __boot_stack)
}

/// Physical memory as the boot page tables map it. Only for the time of those tables.
pub(crate) struct BootMemory(());

impl BootMemory {
    /// # Safety
    ///
    /// The boot page tables are in use while the value exists.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl PhysMemory for BootMemory {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfReach> {
        let end = address.checked_add(out.len() as u64).ok_or(OutOfReach)?;
        if end > REACH {
            return Err(OutOfReach);
        }
        for (at, byte) in (address..end).zip(out) {
            // Address 0 is a place like any other here, though not to `read_volatile`.
            // SAFETY: everything below `REACH` is mapped, and reading memory or nothing has no effect.
            unsafe {
                core::arch::asm!("mov {}, [{}]", out(reg_byte) *byte, in(reg) at,
                    options(nostack, readonly, preserves_flags));
            }
        }
        Ok(())
    }
}

fn entry(table: u64, index: u64) -> *mut u64 {
    (table as *mut u64).wrapping_add(index as usize)
}

/// Frames for page tables, zeroed.
pub(super) struct Tables;

impl TableMemory for Tables {
    fn allocate(&mut self) -> Option<u64> {
        let frame = allocate_frame().filter(|&frame| frame < REACH)?;
        // SAFETY: the frame is ours alone and mapped: the boot tables reach it, as do our own.
        unsafe { (frame as *mut u8).write_bytes(0, PAGE_SIZE as usize) };
        Some(frame)
    }

    fn read(&self, table: u64, index: u64) -> u64 {
        // SAFETY: `IdentityMap` names only frames that it got from `allocate`, and indices below 512.
        unsafe { entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: u64, index: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { entry(table, index).write_volatile(value) };
    }
}

/// Why there is no memory to run in.
pub(crate) enum MemoryError {
    /// The memory map is too fragmented.
    Fragmented,
    /// There is not enough RAM, or not where the boot page tables reach.
    TooLittle,
    /// The memory map reaches beyond what page tables can map.
    TooHigh,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fragmented => "it has too many pieces",
            Self::TooLittle => "there is too little RAM below 4 GiB",
            Self::TooHigh => "it names impossible addresses",
        })
    }
}

impl From<MapError> for MemoryError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoMemory => Self::TooLittle,
            MapError::BadRange => Self::TooHigh,
        }
    }
}

impl From<Full> for MemoryError {
    fn from(_: Full) -> Self {
        Self::Fragmented
    }
}

/// What is usable, and how much.
pub(crate) struct Memory {
    /// Bytes of RAM that the memory map calls usable.
    pub(crate) usable_bytes: u64,
    /// A free page below 1 MiB for the other processors' first instructions.
    pub(crate) trampoline: Option<u64>,
}

/// Builds the frame allocator and the heap. The boot page tables are in use.
pub(crate) fn init(boot: &BootInfo) -> Result<Memory, MemoryError> {
    let mut usable = boot.memory.usable()?;
    let usable_bytes = usable.iter().map(Range::len).sum();
    let trampoline = find_trampoline(&usable);
    memory_map::subtract(&mut usable, Range { start: 0, end: LOW_MEMORY_END })?;
    memory_map::subtract(&mut usable, image())?;
    memory_map::subtract(&mut usable, Range { start: MAX_MANAGED, end: u64::MAX })?;
    let bitmap = reserve_bitmap(&mut usable)?;
    *FRAMES.lock() = Some(FrameAllocator::new(&usable, bitmap));
    init_heap(usable_bytes)?;
    Ok(Memory { usable_bytes, trampoline })
}

/// The highest whole page of low RAM, where firmware's leftovers are least likely.
fn find_trampoline(usable: &Usable) -> Option<u64> {
    let low = usable.iter().filter(|range| range.start < 640 << 10);
    low.map(|range| range.end.min(640 << 10) - PAGE_SIZE).rfind(|&page| page != 0)
}

/// Takes room for the frame allocator's bits from the beginning of the first range that has it.
fn reserve_bitmap(usable: &mut Usable) -> Result<&'static mut [u64], MemoryError> {
    let words = FrameAllocator::bitmap_words(usable);
    let bytes = (words as u64 * 8).next_multiple_of(PAGE_SIZE);
    let fits = |range: &&Range| range.len() >= bytes && range.start + bytes <= REACH;
    let start = usable.iter().find(fits).ok_or(MemoryError::TooLittle)?.start;
    memory_map::subtract(usable, Range::new(start, bytes))?;
    // SAFETY: usable RAM that nobody else gets, mapped by the boot tables and by ours; any bits will do.
    Ok(unsafe { core::slice::from_raw_parts_mut(start as *mut u64, words) })
}

fn init_heap(usable_bytes: u64) -> Result<(), MemoryError> {
    let wanted = (usable_bytes / HEAP_SHARE).clamp(*HEAP_BYTES.start(), *HEAP_BYTES.end());
    let bytes = wanted & !(PAGE_SIZE - 1);
    let start = allocate_frames(bytes / PAGE_SIZE, 1).filter(|start| start + bytes <= REACH);
    let start = start.ok_or(MemoryError::TooLittle)?;
    let start = NonNull::new(start as *mut u8).ok_or(MemoryError::TooLittle)?;
    // SAFETY: the frames are the heap's for ever, and mapped one to one.
    unsafe { heap::init(start, bytes as usize) };
    Ok(())
}

/// Hands out a frame.
pub(crate) fn allocate_frame() -> Option<u64> {
    with_frames(FrameAllocator::allocate).flatten()
}

/// Hands out frames in a row.
pub(crate) fn allocate_frames(count: u64, align_frames: u64) -> Option<u64> {
    with_frames(|frames| frames.allocate_contiguous(count, align_frames)).flatten()
}

/// Does something with the frame allocator.
pub(crate) fn with_frames<T>(action: impl FnOnce(&mut FrameAllocator<'static>) -> T) -> Option<T> {
    x86_64::instructions::interrupts::without_interrupts(|| FRAMES.lock().as_mut().map(action))
}

/// Flags of the page at `address`, if it is mapped.
pub(crate) fn flags(address: u64) -> Option<Flags> {
    MAP.lock().as_ref()?.flags(address)
}

/// Whether somebody is at the page tables or the frame allocator.
pub(crate) fn is_locked() -> bool {
    MAP.is_locked() || FRAMES.is_locked()
}

/// Does something with the page tables. What takes rights away must be followed by a flush: use [`super::remap`].
pub(super) fn with_map<T>(
    action: impl FnOnce(&mut IdentityMap<Tables>) -> Result<T, MapError>,
) -> Result<T, MapError> {
    MAP.lock().as_mut().map_or(Err(MapError::NoMemory), action)
}

/// Where a processor's stacks are, for [`build_map`].
pub(crate) fn allocate_stacks(count: u64) -> Option<u64> {
    allocate_frames(count * TOTAL_PAGES, 1)
}

/// What must be mapped beside RAM and image.
pub(crate) struct Extras<'a> {
    /// Stacks of all processors.
    pub(crate) stacks: &'a [Stacks],
    /// The other processors' first instructions.
    pub(crate) trampoline: Option<u64>,
    /// The hypercall page.
    pub(crate) hypercall_page: u64,
    /// The local APICs' registers.
    pub(crate) apic: Option<u64>,
}

/// Builds the kernel's page tables.
pub(crate) fn build_map(boot: &BootInfo, extras: &Extras<'_>) -> Result<u64, MemoryError> {
    let nx = if cpu::has_nx() { Flags::NO_EXECUTE } else { Flags::empty() };
    let data = Flags::WRITABLE | nx;
    let mut map = IdentityMap::new(Tables)?;
    for range in boot.memory.usable()?.iter().filter(|range| range.start < MAX_MANAGED) {
        map.map(Range { start: range.start, end: range.end.min(MAX_MANAGED) }, data)?;
    }
    let image = image();
    map.map(Range { start: image.start, end: image.end.next_multiple_of(PAGE_SIZE) }, data)?;
    map.map(text(), Flags::empty())?;
    map.map(rodata(), nx)?;
    map.unmap(boot_guard())?;
    map.unmap(Range::new(0, PAGE_SIZE))?;
    for stacks in extras.stacks {
        for stack in Stacks::ALL {
            map.unmap(stacks.guard(stack))?;
        }
    }
    if let Some(page) = extras.trampoline {
        map.map(Range::new(page, PAGE_SIZE), Flags::empty())?;
    }
    map.map(Range::new(extras.hypercall_page, PAGE_SIZE), Flags::empty())?;
    if let Some(apic) = extras.apic {
        let uncached = Flags::NO_CACHE | Flags::WRITE_THROUGH;
        map.map(Range::new(apic, PAGE_SIZE), data | uncached)?;
    }
    let root = map.root();
    *MAP.lock() = Some(map);
    if root < REACH { Ok(root) } else { Err(MemoryError::TooLittle) }
}

/// Puts the page tables at `root` in force on the processor that runs this.
///
/// # Safety
///
/// `root` is from [`build_map`].
pub(crate) unsafe fn activate(root: u64) {
    cpu::enable_protections();
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(root));
    // SAFETY: the tables map all that is in use, at the same addresses.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}
