//! A disk in memory, for tests.

use std::sync::{PoisonError, RwLock};

use super::buffer::IoBuffer;
use super::disk::{ByteRange, Disk, DiskError, DiskInfo, check_range};

/// Bytes in memory.
pub struct MemoryDisk {
    bytes: RwLock<Vec<u8>>,
    read_only: bool,
}

impl MemoryDisk {
    /// A disk with this content.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes), read_only: false }
    }

    /// The same, which may not be written.
    pub fn read_only(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes), read_only: true }
    }

    /// Its content.
    pub fn content(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Grows with zeros, or shrinks. Whoever uses the disk learns of it by [`Disk::refresh`].
    pub fn resize(&self, bytes: usize) {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner).resize(bytes, 0);
    }

    fn change(
        &self,
        range: ByteRange,
        change: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        check_range(range, bytes.len() as u64)?;
        let part = bytes.get_mut(range.offset as usize..range.end() as usize);
        change(part.ok_or(DiskError::Outside)?);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn info(&self) -> DiskInfo {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64;
        DiskInfo { bytes, read_only: self.read_only, discard: !self.read_only }
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        let range = ByteRange::new(offset, buffer.len());
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        check_range(range, bytes.len() as u64)?;
        let part = bytes.get(offset as usize..range.end() as usize);
        buffer.write(0, part.ok_or(DiskError::Outside)?);
        Ok(())
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.change(ByteRange::new(offset, buffer.len()), |part| buffer.read(0, part))
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.zero(range)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.change(range, |part| {
            part.fill(0);
            part.len()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept() {
        let disk = MemoryDisk::new(vec![7; 1024]);
        disk.write(512, &IoBuffer::owned(vec![1; 256])).unwrap();
        disk.zero(ByteRange::new(0, 8)).unwrap();
        let read = IoBuffer::owned(vec![9; 1024]);
        disk.read(0, &read).unwrap();
        assert_eq!(read.to_vec(), disk.content());
        assert_eq!(disk.content()[..9], [0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!((disk.content()[512], disk.content()[768]), (1, 7));
    }

    #[test]
    fn nothing_behind_the_end_is_touched() {
        let disk = MemoryDisk::new(vec![0; 1024]);
        let buffer = IoBuffer::owned(vec![0; 512]);
        assert_eq!(disk.read(513, &buffer), Err(DiskError::Outside));
        assert_eq!(disk.write(u64::MAX, &buffer), Err(DiskError::Outside));
        assert_eq!(disk.zero(ByteRange::new(1024, 1)), Err(DiskError::Outside));
        disk.resize(2048);
        assert_eq!((disk.read(513, &buffer), disk.info().bytes), (Ok(()), 2048));
    }

    #[test]
    fn a_read_only_disk_refuses_changes() {
        let disk = MemoryDisk::read_only(vec![0; 512]);
        let buffer = IoBuffer::owned(vec![1; 512]);
        assert_eq!(disk.write(0, &buffer), Err(DiskError::ReadOnly));
        assert_eq!(disk.discard(ByteRange::new(0, 512)), Err(DiskError::ReadOnly));
        assert_eq!(disk.read(0, &buffer), Ok(()));
    }
}
