//! Messages between the interrupt handler that gets them and the task that reads them.

use alloc::collections::VecDeque;

use hv_abi::vmbus::VMBUS_MAX_MESSAGE_BYTES;
use spin::Mutex;

use crate::hal::Hal;
use crate::task::Bell;

/// A message taken from the inbox.
pub(super) struct RawMessage {
    bytes: [u8; VMBUS_MAX_MESSAGE_BYTES],
    length: usize,
}

impl RawMessage {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A queue of bytes that never grows: each message with a byte before it that is its length.
pub(super) struct Inbox {
    queue: Mutex<VecDeque<u8>>,
    capacity: usize,
    /// Rings when something came.
    pub(super) bell: Bell,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    TooLong,
    NoRoom,
}

impl Inbox {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(VMBUS_MAX_MESSAGE_BYTES + 1);
        let queue = Mutex::new(VecDeque::with_capacity(capacity));
        Self { queue, capacity, bell: Bell::new() }
    }

    /// Takes a copy of a message. Fit for interrupt handlers.
    pub(super) fn push(&self, hal: &impl Hal, message: &[u8]) -> Result<(), NotTaken> {
        if message.len() > VMBUS_MAX_MESSAGE_BYTES {
            return Err(NotTaken::TooLong);
        }
        hal.without_interrupts(|| {
            let mut queue = self.queue.lock();
            if queue.len() + message.len() + 1 > self.capacity {
                return Err(NotTaken::NoRoom);
            }
            queue.push_back(message.len() as u8);
            queue.extend(message);
            Ok(())
        })?;
        self.bell.ring(hal);
        Ok(())
    }

    pub(super) fn pop(&self, hal: &impl Hal) -> Option<RawMessage> {
        hal.without_interrupts(|| {
            let mut queue = self.queue.lock();
            let length = usize::from(queue.pop_front()?);
            let mut bytes = [0; VMBUS_MAX_MESSAGE_BYTES];
            for (byte, queued) in bytes.iter_mut().zip(queue.drain(..length)) {
                *byte = queued;
            }
            Some(RawMessage { bytes, length })
        })
    }
}

const _: () = assert!(VMBUS_MAX_MESSAGE_BYTES <= u8::MAX as usize);
