//! Reading physical memory that somebody else wrote: boot information and ACPI tables.

/// Physical memory that may be read.
///
/// Readers copy a value once, check the copy and use the copy.
pub trait PhysMemory {
    /// Fills `out` from `address` on.
    ///
    /// # Errors
    /// [`OutOfReach`] if a byte of the range can't be read.
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfReach>;

    /// Copies `N` bytes from `address` on.
    ///
    /// # Errors
    /// As [`PhysMemory::read`].
    fn bytes<const N: usize>(&self, address: u64) -> Result<[u8; N], OutOfReach> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }
}

/// The range can't be read: it wraps around or lies beyond what is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfReach;

/// The little-endian `u32` at `offset`, zero where `bytes` ends before it.
pub fn le32(bytes: &[u8], offset: usize) -> u32 {
    field(bytes, offset).map_or(0, u32::from_le_bytes)
}

/// The little-endian `u64` at `offset`, zero where `bytes` ends before it.
pub fn le64(bytes: &[u8], offset: usize) -> u64 {
    field(bytes, offset).map_or(0, u64::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Memory for tests: one slice at a base address.
#[cfg(test)]
pub(crate) struct Slice<'a>(pub(crate) u64, pub(crate) &'a [u8]);

#[cfg(test)]
impl PhysMemory for Slice<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfReach> {
        let from = address.checked_sub(self.0).ok_or(OutOfReach)? as usize;
        let to = from.checked_add(out.len()).ok_or(OutOfReach)?;
        out.copy_from_slice(self.1.get(from..to).ok_or(OutOfReach)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian_and_zero_beyond_the_end() {
        let bytes = [0x11, 0x22, 0x33, 0x44, 0x55];
        assert_eq!(le32(&bytes, 1), 0x5544_3322);
        assert_eq!(le32(&bytes, 2), 0);
        assert_eq!(le64(&bytes, usize::MAX), 0);
    }
}
