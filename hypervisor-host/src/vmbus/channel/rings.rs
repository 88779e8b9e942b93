//! A channel's two rings in the pages of a GPADL.
#![expect(unsafe_code, reason = "hands pages of guest RAM to the ring by their addresses")]

use std::ptr::NonNull;
use std::sync::Arc;

use hv_abi::HV_PAGE_SIZE;
use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmbus_ring::{MemoryError, PagedMemory, RingError, RingMemory, RingReceiver, RingSender};

use crate::vmbus::gpadl::Gpadl;

/// What a ring's memory needs to live on.
type Owner = (GuestMemoryMmap, Arc<Gpadl>);
pub(super) type Receiver = RingReceiver<PagedMemory<Owner>>;
pub(super) type Sender = RingSender<PagedMemory<Owner>>;
pub(super) type Batch<'c> = vmbus_ring::Batch<'c, PagedMemory<Owner>>;

/// Pages of a ring, at least: one for the control words, one for data.
const MIN_RING_PAGES: usize = 2;

/// Why pages are no rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(in crate::vmbus) enum RingsError {
    /// The GPADL is not one range of whole pages.
    #[error("the GPADL is not one range of whole pages")]
    Shape,
    /// The second ring would begin outside, or one ring have too few pages.
    #[error("the GPADL has no place for two rings")]
    Offset,
    /// A page is not RAM.
    #[error("a page is not RAM")]
    NotRam,
    /// There are too many pages.
    #[error("{0}")]
    Memory(MemoryError),
    /// The indices that the guest put into the control pages are wrong.
    #[error("{0}")]
    Ring(RingError),
}

/// Both rings.
pub(in crate::vmbus) struct Rings {
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
    /// Bytes of data in the guest's ring.
    pub(super) guest_bytes: u32,
}

impl Rings {
    /// The guest's ring from the first page on, the host's from page `host_offset` on.
    pub(in crate::vmbus) fn map(
        memory: &GuestMemoryMmap,
        gpadl: &Arc<Gpadl>,
        host_offset: u32,
    ) -> Result<Self, RingsError> {
        let pages = gpadl.ring_pages().ok_or(RingsError::Shape)?;
        let split = pages.split_at_checked(host_offset as usize).ok_or(RingsError::Offset)?;
        let owner = (memory.clone(), gpadl.clone());
        let guest = map_ring(memory, split.0, owner.clone())?;
        let host = map_ring(memory, split.1, owner)?;
        Ok(Self {
            guest_bytes: guest.data_len(),
            receiver: RingReceiver::new(guest).map_err(RingsError::Ring)?,
            sender: RingSender::new(host).map_err(RingsError::Ring)?,
        })
    }
}

/// The ring in these pages. `owner` has a handle of `memory`.
pub(in crate::vmbus) fn map_ring<O>(
    memory: &GuestMemoryMmap,
    pages: &[u64],
    owner: O,
) -> Result<PagedMemory<O>, RingsError> {
    if pages.len() < MIN_RING_PAGES {
        return Err(RingsError::Offset);
    }
    let pages = pages.iter().map(|&page| host_address(memory, page));
    let pages: Vec<_> = pages.collect::<Option<_>>().ok_or(RingsError::NotRam)?;
    let (&control, data) = pages.split_first().ok_or(RingsError::Offset)?;
    // SAFETY: each is the address of a page of mapped RAM, which the owner keeps mapped; the program reaches guest RAM only by
    // atomics and by accesses that may race, through `vm_memory` and ring memories.
    unsafe { PagedMemory::new(control, data, owner) }.map_err(RingsError::Memory)
}

fn host_address(memory: &GuestMemoryMmap, page: u64) -> Option<NonNull<u8>> {
    let address = GuestAddress(page.checked_mul(HV_PAGE_SIZE as u64)?);
    let slice = memory.get_slice(address, HV_PAGE_SIZE).ok()?;
    NonNull::new(slice.ptr_guard_mut().as_ptr())
}
