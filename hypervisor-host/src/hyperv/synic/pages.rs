//! Message slots and event flags in guest memory (TLFS *SynIC Messages*, *SynIC Event Flags*).
//!
//! The guest empties a slot and then looks at `MessagePending`; we set `MessagePending` and then look at the
//! slot again. With sequentially consistent accesses on both sides one of the two sees the other, so that no
//! message stays behind.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hv_abi::synic::{
    HV_EVENT_FLAGS_BYTES, HV_MESSAGE_BYTES, HV_MESSAGE_FLAG_PENDING, HvMessage, HvMessageType,
};
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory, VolatileSlice,
};
use zerocopy::IntoBytes;

const TYPE_OFFSET: usize = 0;
const FLAGS_OFFSET: usize = 5;
/// What stands before the flags, and behind them.
const AFTER_TYPE: usize = 4;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the slot.
    Delivered,
    /// The slot is occupied; the guest was told that another message waits.
    Occupied,
    /// The page is not RAM.
    NoMemory,
}

/// Puts a message into slot `sint` of the page at `page`. Only what counts of the payload is written.
pub fn put_message(
    memory: &GuestMemoryMmap,
    page: GuestAddress,
    sint: u8,
    message: &HvMessage,
) -> Put {
    let offset = u64::from(sint) * HV_MESSAGE_BYTES as u64;
    let slot = page.checked_add(offset).and_then(|at| memory.get_slice(at, HV_MESSAGE_BYTES).ok());
    slot.and_then(|slot| put_into(&slot, message)).unwrap_or(Put::NoMemory)
}

fn put_into(slot: &VolatileSlice<'_>, message: &HvMessage) -> Option<Put> {
    let message_type: &AtomicU32 = slot.get_atomic_ref(TYPE_OFFSET).ok()?;
    let flags: &AtomicU8 = slot.get_atomic_ref(FLAGS_OFFSET).ok()?;
    let is_empty = || message_type.load(Ordering::SeqCst) == HvMessageType::NONE.0;
    if !is_empty() {
        flags.fetch_or(HV_MESSAGE_FLAG_PENDING, Ordering::SeqCst);
        if !is_empty() {
            return Some(Put::Occupied);
        }
    }
    let mut message = *message;
    message.header.message_flags = 0;
    let length = size_of_val(&message.header) + usize::from(message.header.payload_size);
    let bytes = message.as_bytes().get(AFTER_TYPE..length)?;
    slot.offset(AFTER_TYPE).ok()?.copy_from(bytes);
    message_type.store(message.header.message_type.0, Ordering::SeqCst);
    Some(Put::Delivered)
}

/// Sets flag `flag` of source `sint` in the page at `page`. Tells whether it was clear; `None` if the page
/// is not RAM.
pub fn set_flag(memory: &GuestMemoryMmap, page: GuestAddress, sint: u8, flag: u16) -> Option<bool> {
    let offset = u64::from(sint) * HV_EVENT_FLAGS_BYTES as u64;
    let flags = memory.get_slice(page.checked_add(offset)?, HV_EVENT_FLAGS_BYTES).ok()?;
    let byte: &AtomicU8 = flags.get_atomic_ref(usize::from(flag / 8)).ok()?;
    let bit = 1 << (flag % 8);
    Some(byte.fetch_or(bit, Ordering::SeqCst) & bit == 0)
}
