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
