//! `isa-debug-exit`, the port through which test kernels end a QEMU machine.

use super::{PortDevice, Request, little_endian};
use crate::outcome::{Outcome, Reason};

/// The device. Writing `v` ends with exit code `(v << 1) | 1`, of which a process keeps 8 bits
/// (QEMU, `hw/misc/debugexit.c`).
pub struct DebugExit;

impl PortDevice for DebugExit {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _: u16, data: &[u8]) -> Option<Request> {
        let code = (little_endian(data) << 1 | 1) as u8;
        Some(Request::End(Outcome::guest(Reason::DebugExit, code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_shifted_and_odd() {
        for (value, code) in [([0, 0, 0, 0], 1), ([0x10, 0, 0, 0], 33), ([0xFF; 4], 0xFF)] {
            let Some(Request::End(outcome)) = DebugExit.write(0, &value) else { panic!("no end") };
            assert_eq!((outcome.reason, outcome.code), (Reason::DebugExit, code));
        }
    }
}
