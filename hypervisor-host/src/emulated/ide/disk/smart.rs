//! SMART: the disk is well, and has nothing more to tell (ATA-6, *SMART*).

use hv_abi::ata::SECTOR_BYTES;
use hv_abi::ata::command::smart;

use super::AtaDisk;
use crate::emulated::ide::port::Port;

/// Logs that there are: the directory, the summary error log and the self-test log.
const LOGS: [u8; 3] = [0x00, 0x01, 0x06];
/// Tests of EXECUTE OFF-LINE IMMEDIATE that are over at once: the routine, short and extended ones, and *abort*.
const TESTS: [u8; 4] = [0, 1, 2, 127];

impl AtaDisk {
    /// SMART.
    pub(super) fn smart(&mut self, port: &mut Port) {
        let registers = port.registers;
        let feature = registers.features.now;
        let on = self.settings.smart || feature == smart::ENABLE_OPERATIONS;
        if [registers.mid.now, registers.high.now] != smart::GOOD || !on {
            return port.abort();
        }
        match feature {
            smart::ENABLE_OPERATIONS => self.settings.smart = true,
            smart::DISABLE_OPERATIONS => self.settings.smart = false,
            smart::READ_DATA => return self.answer(port, attributes()),
            smart::READ_THRESHOLDS => return self.answer(port, structure(&[0x10, 0])),
            smart::READ_LOG => return self.read_log(port, registers.low.now, registers.count.now),
            // The registers say that all is well as they are.
            smart::RETURN_STATUS | smart::ATTRIBUTE_AUTOSAVE => {}
            smart::EXECUTE_OFFLINE_IMMEDIATE if TESTS.contains(&registers.low.now) => {}
            _ => return port.abort(),
        }
        port.done();
    }

    fn read_log(&mut self, port: &mut Port, log: u8, sectors: u8) {
        if !LOGS.contains(&log) || sectors != 1 {
            return port.abort();
        }
        let answer = match log {
            // The directory: its version, then for each log the number of its sectors.
            0x00 => {
                let mut directory = vec![0; SECTOR_BYTES];
                for at in [0, 2, 12] {
                    if let Some(byte) = directory.get_mut(at) {
                        *byte = 1;
                    }
                }
                directory
            }
            0x01 => structure(&[1]),
            _ => structure(&[1, 0]),
        };
        self.answer(port, answer);
    }
}

/// Device attributes without any.
fn attributes() -> Vec<u8> {
    let mut data = structure(&[0x10, 0]);
    for (at, value) in [
        // Nothing was collected off-line yet; no self-test ran.
        (362, 0x00),
        (363, 0x00),
        // Off-line collection and self-tests by EXECUTE OFF-LINE IMMEDIATE.
        (367, 0x11),
        // Attributes are saved, and there is a log of errors.
        (368, 0x03),
        (370, 0x01),
        // Minutes of the tests.
        (372, 1),
        (373, 1),
    ] {
        if let Some(byte) = data.get_mut(at) {
            *byte = value;
        }
    }
    seal(&mut data);
    data
}

/// 512 bytes that begin so, of which the last makes the sum 0.
fn structure(begin: &[u8]) -> Vec<u8> {
    let mut data = begin.to_vec();
    data.resize(SECTOR_BYTES, 0);
    seal(&mut data);
    data
}

fn seal(data: &mut [u8]) {
    if let Some((last, rest)) = data.split_last_mut() {
        *last = rest.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
    }
}
