//! Device memory that reads as what was written, for tests of instructions that access such memory (QEMU,
//! `hw/misc/pc-testdev.c`, `pc-testdev-iomem`).

use std::sync::Mutex;

use crate::stats::lock;

/// First address.
pub const FIRST: u64 = 0xFF00_0000;
/// Size in bytes.
pub const BYTES: usize = 0x1_0000;

/// The device.
pub struct TestMemory(Mutex<Vec<u8>>);

impl Default for TestMemory {
    fn default() -> Self {
        Self(Mutex::new(vec![0; BYTES]))
    }
}

impl TestMemory {
    /// Fills `data` if the bytes from `address` on are the device's; `false` if not.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let bytes = lock(&self.0);
        let found = start(address).and_then(|start| bytes.get(start..)?.get(..data.len()));
        found.map(|found| data.copy_from_slice(found)).is_some()
    }

    /// Takes `data` if the bytes from `address` on are the device's; `false` if not.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let mut bytes = lock(&self.0);
        let found = start(address).and_then(|start| bytes.get_mut(start..)?.get_mut(..data.len()));
        found.map(|found| found.copy_from_slice(data)).is_some()
    }
}

fn start(address: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(FIRST)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_where_they_were_written() {
        let memory = TestMemory::default();
        assert!(memory.write(FIRST + 5, &[1, 2, 3]));
        let mut data = [0xFF; 4];
        assert!(memory.read(FIRST + 4, &mut data));
        assert_eq!(data, [0, 1, 2, 3]);
    }

    #[test]
    fn what_leaves_the_range_is_nobodys() {
        let memory = TestMemory::default();
        let mut data = [0xFF; 4];
        let end = FIRST + BYTES as u64;
        for address in [0, FIRST - 1, FIRST - 4, end - 3, end, u64::MAX] {
            assert!(!memory.read(address, &mut data), "{address:#x}");
            assert!(!memory.write(address, &data), "{address:#x}");
        }
        assert_eq!(data, [0xFF; 4]);
        assert!(memory.read(end - 4, &mut data));
    }
}
