//! Four ports that read as what was written, for tests of port instructions (QEMU,
//! `hw/misc/pc-testdev.c`, `pc-testdev-ioport`).

use super::super::{PortDevice, Request};

/// The device.
#[derive(Debug, Default)]
pub struct DataPort([u8; Self::COUNT as usize]);

impl DataPort {
    /// The first port.
    pub const FIRST: u16 = 0xE0;
    /// How many.
    pub const COUNT: u16 = 4;
}

impl PortDevice for DataPort {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (byte, stored) in data.iter_mut().zip(self.0.iter().skip(offset.into())) {
            *byte = *stored;
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        for (stored, byte) in self.0.iter_mut().skip(offset.into()).zip(data) {
            *stored = *byte;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_offset_reads_what_it_wrote() {
        let mut port = DataPort::default();
        assert_eq!(port.write(0, &[1, 2, 3, 4]), None);
        assert_eq!(port.write(2, &[9]), None);
        let mut data = [0xFF; 4];
        port.read(0, &mut data);
        assert_eq!(data, [1, 2, 9, 4]);
        let mut data = [0xFF; 2];
        port.read(3, &mut data);
        assert_eq!(data, [4, 0xFF], "nothing lies behind the last port");
    }
}
