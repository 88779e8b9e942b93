//! Parts of a disk in memory.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Deref;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512;
/// Bytes of each chunk: what is read from the disk at once.
pub const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_BLOCKS: u64 = (CHUNK_BYTES / BLOCK_BYTES) as u64;

/// A part of the disk: [`CHUNK_BYTES`] at this multiple of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chunk(pub u64);

impl Chunk {
    /// Those that follow, the next one first.
    pub fn following(self, count: u64) -> impl Iterator<Item = Chunk> {
        (1..=count).map_while(move |distance| self.0.checked_add(distance).map(Chunk))
    }
}

/// Why a block can't be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The chunk is not in memory.
    Missing(Chunk),
    /// The disk failed to read it, or has no such block.
    Unreadable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing(_) => "not read yet",
            Self::Unreadable => "unreadable",
        })
    }
}

impl core::error::Error for Fault {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Its buffer is on its way.
    Reading(Chunk),
    Ready(Chunk),
    /// Told once, then forgotten.
    Failed(Chunk),
}

impl State {
    fn chunk(self) -> Option<Chunk> {
        match self {
            Self::Empty => None,
            Self::Reading(chunk) | Self::Ready(chunk) | Self::Failed(chunk) => Some(chunk),
        }
    }
}

struct Slot<B> {
    state: State,
    buffer: Option<B>,
    used: u64,
}

/// The chunks of a disk that were used last. Its memory are the buffers it was made with.
pub struct Cache<B> {
    slots: RefCell<Vec<Slot<B>>>,
    blocks: u64,
    uses: Cell<u64>,
    last: Cell<Option<Chunk>>,
}

impl<B: Deref<Target = [u8]>> Cache<B> {
    /// For a disk of `blocks` blocks of 512 bytes. Buffers shorter than [`CHUNK_BYTES`] are not used.
    pub fn new(buffers: impl IntoIterator<Item = B>, blocks: u64) -> Self {
        let whole = buffers.into_iter().filter(|buffer| buffer.len() >= CHUNK_BYTES);
        let slot = |buffer| Slot { state: State::Empty, buffer: Some(buffer), used: 0 };
        Self {
            slots: RefCell::new(whole.map(slot).collect()),
            blocks,
            uses: Cell::new(0),
            last: Cell::new(None),
        }
    }

    /// A buffer to read `chunk` into, for [`Cache::put`] or [`Cache::fail`]. `None` if that is needless (the chunk is here or on
    /// its way, or the disk has none such) or not possible now, since all buffers are on their way.
    pub fn claim(&self, chunk: Chunk) -> Option<B> {
        let first = chunk.0.checked_mul(CHUNK_BLOCKS)?;
        let mut slots = self.slots.borrow_mut();
        if first >= self.blocks || slots.iter().any(|slot| slot.state.chunk() == Some(chunk)) {
            return None;
        }
        let unused = slots.iter_mut().filter(|slot| slot.buffer.is_some());
        let slot = unused.min_by_key(|slot| (slot.state != State::Empty, slot.used))?;
        slot.state = State::Reading(chunk);
        slot.used = self.stamp();
        slot.buffer.take()
    }

    /// The chunk was read.
    pub fn put(&self, chunk: Chunk, buffer: B) {
        self.end(chunk, State::Ready(chunk), Some(buffer));
    }

    /// The chunk could not be read; the buffer may be lost.
    pub fn fail(&self, chunk: Chunk, buffer: Option<B>) {
        self.end(chunk, State::Failed(chunk), buffer);
    }

    fn end(&self, chunk: Chunk, state: State, buffer: Option<B>) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.state == State::Reading(chunk)) {
            slot.state = state;
            slot.buffer = buffer;
        }
    }

    /// The chunk that was read from last.
    pub fn last(&self) -> Option<Chunk> {
        self.last.get()
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    fn stamp(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    /// Copies what lies at `position`, in bytes, as far as one chunk has it: at least a byte, unless `bytes` is empty.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub fn read_some(&self, position: u64, bytes: &mut [u8]) -> Result<usize, Fault> {
        let end = self.blocks.saturating_mul(BLOCK_BYTES as u64);
        let left = end.checked_sub(position).filter(|left| *left != 0).ok_or(Fault::Unreadable)?;
        let chunk = Chunk(position / CHUNK_BYTES as u64);
        let mut slots = self.slots.borrow_mut();
        let found = slots.iter_mut().find(|slot| slot.state.chunk() == Some(chunk));
        let slot = found.ok_or(Fault::Missing(chunk))?;
        match (slot.state, &slot.buffer) {
            (State::Ready(_), Some(buffer)) => {
                let whole = buffer.get(..CHUNK_BYTES).ok_or(Fault::Unreadable)?;
                let rest = &whole[(position % CHUNK_BYTES as u64) as usize..];
                let count = rest.len().min(bytes.len()).min(left.try_into().unwrap_or(usize::MAX));
                bytes[..count].copy_from_slice(&rest[..count]);
                slot.used = self.stamp();
                self.last.set(Some(chunk));
                Ok(count)
            }
            (State::Failed(_), _) => {
                // Whoever asks the next time has it tried again.
                slot.state = State::Empty;
                Err(Fault::Unreadable)
            }
            _ => Err(Fault::Missing(chunk)),
        }
    }

    /// Copies all that lies at `position`, in bytes.
    ///
    /// # Errors
    ///
    /// [`Fault`]; what is in `bytes` then is nobody's.
    pub fn read_all(&self, mut position: u64, mut bytes: &mut [u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let count = self.read_some(position, bytes)?;
            position = position.saturating_add(count as u64);
            bytes = &mut bytes[count..];
        }
        Ok(())
    }
}
