//! Interrupt lines that a test kernel raises and lowers itself (QEMU, `hw/misc/pc-testdev.c`,
//! `pc-testdev-irq-line`): port 0x2000 + *n* is line *n*, and a byte written is its level.

use super::super::{PortDevice, Request};

/// The first port.
pub const FIRST: u16 = 0x2000;
/// As many as the IOAPIC has pins.
pub const COUNT: u16 = 24;

/// The device; the function sets a line, by its GSI, to a level.
pub struct IrqLines<F>(pub F);

impl<F: Fn(u32, bool) + Send> PortDevice for IrqLines<F> {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        if let [level] = data {
            (self.0)(offset.into(), *level != 0);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::lock;
    use std::sync::Mutex;

    #[test]
    fn a_byte_sets_the_line_of_its_port() {
        static SET: Mutex<Vec<(u32, bool)>> = Mutex::new(Vec::new());
        let mut lines = IrqLines(|line, level| lock(&SET).push((line, level)));
        assert_eq!(lines.write(14, &[1]), None);
        assert_eq!(lines.write(14, &[0]), None);
        assert_eq!(lines.write(23, &[0x80]), None);
        assert_eq!(lines.write(0, &[1, 0]), None);
        assert_eq!(*lock(&SET), [(14, true), (14, false), (23, true)], "only bytes count");
    }
}
