//! QEMU's `fw_cfg`, as far as test kernels ask it: how many processors and how much RAM there is.
//!
//! Source: QEMU, `docs/specs/fw_cfg.rst` and `include/standard-headers/linux/qemu_fw_cfg.h`. A 16-bit write
//! selects an item; each byte read from the data port is the item's next one, and zero behind its end. There
//! is no DMA, and no file. kvm-unit-tests reads its upper limit of RAM from key 0x11 (`FW_CFG_MAX_RAM` of its
//! `lib/x86/fwcfg.h`), where zero means that there is none.

use super::super::{PortDevice, Request};

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const NB_CPUS: u16 = 0x05;
const MAX_CPUS: u16 = 0x0F;

/// Bit 0 of the item [`ID`]: selector and data port; without bit 1 there is no DMA.
const TRADITIONAL: u32 = 1 << 0;

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    vps: u16,
    ram_bytes: u64,
    item: Vec<u8>,
    position: usize,
}

impl FwCfg {
    /// The selector.
    pub const FIRST: u16 = 0x510;
    /// Selector and data port.
    pub const COUNT: u16 = 2;
    const DATA: u16 = 1;

    /// Tells of so many processors and so much RAM.
    pub fn new(vps: u32, ram_bytes: u64) -> Self {
        let vps = u16::try_from(vps).unwrap_or(u16::MAX);
        let mut device = Self { vps, ram_bytes, item: Vec::new(), position: 0 };
        device.select(SIGNATURE);
        device
    }

    fn select(&mut self, key: u16) {
        self.position = 0;
        self.item = match key {
            SIGNATURE => b"QEMU".to_vec(),
            ID => TRADITIONAL.to_le_bytes().to_vec(),
            RAM_SIZE => self.ram_bytes.to_le_bytes().to_vec(),
            NB_CPUS | MAX_CPUS => self.vps.to_le_bytes().to_vec(),
            _ => Vec::new(),
        };
    }
}

impl PortDevice for FwCfg {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        if (offset, data.len()) == (Self::DATA, 1) {
            data.fill(self.item.get(self.position).copied().unwrap_or(0));
            self.position = self.position.saturating_add(1);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        if let (0, Ok(key)) = (offset, <[u8; 2]>::try_from(data)) {
            self.select(u16::from_le_bytes(key));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<const N: usize>(device: &mut FwCfg, key: u16) -> [u8; N] {
        assert_eq!(device.write(0, &key.to_le_bytes()), None);
        std::array::from_fn(|_| {
            let mut byte = [0xFF];
            device.read(1, &mut byte);
            byte[0]
        })
    }

    #[test]
    fn items_read_byte_by_byte_and_as_zeros_behind_their_end() {
        let mut device = FwCfg::new(3, 0x1_2345_6000);
        assert_eq!(item(&mut device, 0), *b"QEMU\0\0");
        assert_eq!(item(&mut device, 1), [1, 0, 0, 0]);
        assert_eq!(item(&mut device, 3), [0, 0x60, 0x45, 0x23, 1, 0, 0, 0, 0]);
        assert_eq!(item(&mut device, 5), [3, 0, 0]);
        assert_eq!(item(&mut device, 0x0F), [3, 0]);
        assert_eq!(item(&mut device, 0x11), [0; 8], "no limit");
        assert_eq!(item(&mut device, 0x19), [0; 4], "no files");
        assert_eq!(item(&mut device, 0xFFFF), [0; 4]);
    }

    #[test]
    fn only_selectors_of_16_bits_and_bytes_of_data_count() {
        let mut device = FwCfg::new(3, 0);
        item::<1>(&mut device, 5);
        assert_eq!(device.write(0, &[0]), None);
        assert_eq!(device.write(1, &[0, 0]), None);
        assert_eq!(device.write(0, &[0, 0, 0, 0]), None);
        let mut wide = [0xFF; 2];
        device.read(1, &mut wide);
        device.read(0, &mut wide);
        assert_eq!(wide, [0xFF; 2]);
        let mut byte = [0xFF];
        device.read(1, &mut byte);
        assert_eq!(byte, [0], "still the second byte of the number of processors");
    }
}
