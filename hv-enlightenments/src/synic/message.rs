//! Messages: the page they come in, and the copy a guest works with.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use hv_abi::synic::{
    HV_MESSAGE_BYTES, HV_MESSAGE_FLAG_PENDING, HV_MESSAGE_PAYLOAD_BYTES, HV_SYNIC_SINT_COUNT,
    HvMessageType,
};

use super::Sint;
use super::error::Malformed;

const PAYLOAD_WORDS: usize = HV_MESSAGE_PAYLOAD_BYTES / 8;

/// A slot as both sides see it (`hv_abi::synic::HvMessage`, shared).
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) message_type: AtomicU32,
    /// Byte 0 payload size, byte 1 flags.
    pub(crate) size_and_flags: AtomicU32,
    pub(crate) sender: AtomicU64,
    pub(crate) payload: [AtomicU64; PAYLOAD_WORDS],
}

const _: () = assert!(size_of::<Slot>() == HV_MESSAGE_BYTES);

impl Slot {
    const fn new() -> Self {
        Self {
            message_type: AtomicU32::new(HvMessageType::NONE.0),
            size_and_flags: AtomicU32::new(0),
            sender: AtomicU64::new(0),
            payload: [const { AtomicU64::new(0) }; PAYLOAD_WORDS],
        }
    }

    /// Copies the content, whatever it is; each word once.
    fn copy(&self, message_type: HvMessageType) -> Result<Message, Malformed> {
        let [payload_size, ..] = self.size_and_flags.load(Ordering::Relaxed).to_le_bytes();
        if usize::from(payload_size) > HV_MESSAGE_PAYLOAD_BYTES {
            return Err(Malformed { payload_size });
        }
        let mut payload = [0; HV_MESSAGE_PAYLOAD_BYTES];
        let words = usize::from(payload_size).div_ceil(8);
        for (bytes, word) in payload.chunks_exact_mut(8).zip(&self.payload).take(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let sender = self.sender.load(Ordering::Relaxed);
        Ok(Message { message_type, sender, payload_size, payload })
    }
}

/// The message page as both sides see it: one slot for each source.
#[repr(C, align(4096))]
pub struct MessagePage(pub(crate) [Slot; HV_SYNIC_SINT_COUNT]);

const _: () = assert!(size_of::<MessagePage>() == hv_abi::HV_PAGE_SIZE);

impl MessagePage {
    /// A page of empty slots.
    pub const fn new() -> Self {
        Self([const { Slot::new() }; HV_SYNIC_SINT_COUNT])
    }

    /// Takes the message out of slot `index`; also, whether another waits. `None` from an empty slot.
    pub(super) fn take(&self, index: usize) -> Option<(Result<Message, Malformed>, bool)> {
        let slot = self.0.get(index)?;
        // Acquire: the rest of the message was written before its type.
        let message_type = HvMessageType(slot.message_type.load(Ordering::Acquire));
        if message_type == HvMessageType::NONE {
            return None;
        }
        let message = slot.copy(message_type);
        // The slot is empty before we look whether a message waits: the hypervisor first finds the slot full, then
        // says that one waits. Otherwise it could say so behind our look and wait for ever. Release also keeps the
        // copying above before.
        slot.message_type.store(HvMessageType::NONE.0, Ordering::Release);
        fence(Ordering::SeqCst);
        let [_, flags, ..] = slot.size_and_flags.load(Ordering::Relaxed).to_le_bytes();
        Some((message, flags & HV_MESSAGE_FLAG_PENDING != 0))
    }

    /// The type of the message in the slot of `sint`, without taking it.
    pub fn message_type(&self, sint: Sint) -> HvMessageType {
        HvMessageType(self.0[sint.index()].message_type.load(Ordering::Acquire))
    }

    /// Whether the slot of `sint` says that another message waits for it.
    pub fn is_pending(&self, sint: Sint) -> bool {
        let [_, flags, ..] =
            self.0[sint.index()].size_and_flags.load(Ordering::Acquire).to_le_bytes();
        flags & HV_MESSAGE_FLAG_PENDING != 0
    }

    pub(super) fn clear(&self) {
        for slot in &self.0 {
            slot.size_and_flags.store(0, Ordering::Relaxed);
            slot.message_type.store(HvMessageType::NONE.0, Ordering::Release);
        }
    }
}

impl Default for MessagePage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MessagePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagePage").finish_non_exhaustive()
    }
}

/// A message, copied out of its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message {
    message_type: HvMessageType,
    sender: u64,
    payload_size: u8,
    payload: [u8; HV_MESSAGE_PAYLOAD_BYTES],
}

impl Message {
    /// What it is. Never [`HvMessageType::NONE`].
    pub fn message_type(&self) -> HvMessageType {
        self.message_type
    }

    /// Who sent it, as the hypervisor has it.
    pub fn sender(&self) -> u64 {
        self.sender
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.payload.get(..self.payload_size.into()).unwrap_or_default()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("message_type", &format_args!("{:#x}", self.message_type.0))
            .field("sender", &self.sender)
            .field("payload", &self.payload())
            .finish()
    }
}
