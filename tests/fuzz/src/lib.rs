//! What several fuzz targets need.

use kernel::phys::{OutOfReach, PhysMemory};

/// Physical memory that consists of `bytes` from `start` on.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// Address of the first byte.
    pub start: u64,
    /// The content.
    pub bytes: &'a [u8],
}

impl PhysMemory for Memory<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfReach> {
        let from = address.checked_sub(self.start).ok_or(OutOfReach)?;
        let from = usize::try_from(from).map_err(|_| OutOfReach)?;
        let to = from.checked_add(out.len()).ok_or(OutOfReach)?;
        out.copy_from_slice(self.bytes.get(from..to).ok_or(OutOfReach)?);
        Ok(())
    }
}

/// What a fuzzer wants done, byte by byte; `None` when it is over.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number: mostly small, so that it means something, sometimes any.
    pub fn number(&mut self) -> Option<u32> {
        let (kind, rest) = self.0.split_first()?;
        if kind & 3 != 0 {
            let (bytes, rest) = rest.split_first_chunk()?;
            self.0 = rest;
            return Some(u32::from(u16::from_le_bytes(*bytes)));
        }
        let (bytes, rest) = rest.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    /// Bytes, as many as the first one says.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }
}
