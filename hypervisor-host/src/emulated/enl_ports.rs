//! The host's own ports (`hv_abi::host`): bulk console, exit, marks and the count of long spin waits.

use std::io::Write;
use std::sync::Arc;

use hv_abi::host::{ConsoleBuffer, ENL_CONSOLE_MAX_BYTES, HostFeatures, Mark};
use hv_abi::host::{ENL_PORT_CONSOLE, ENL_PORT_EXIT, ENL_PORT_LONG_SPINS, ENL_PORT_MARK};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::FromBytes;

use super::{Output, PortDevice, Request, little_endian};
use crate::outcome::{Outcome, Reason};
use crate::stats::VpStats;

/// Text is copied out of the guest in pieces of this size.
const PIECE_BYTES: usize = 4096;

/// The device.
pub struct EnlPorts {
    memory: GuestMemoryMmap,
    output: Output,
    vps: Arc<[VpStats]>,
}

impl EnlPorts {
    /// What the CPUID leaf announces.
    pub const FEATURES: HostFeatures = HostFeatures::all();

    /// A device that prints texts from `memory` to `output` and knows the counters of all VPs.
    pub fn new(memory: GuestMemoryMmap, output: Output, vps: Arc<[VpStats]>) -> Self {
        Self { memory, output, vps }
    }

    /// Prints a [`ConsoleBuffer`]. One that is too long or leaves RAM prints nothing.
    fn print(&mut self, address: u32) -> Option<()> {
        let header_bytes = size_of::<ConsoleBuffer>();
        let mut header = [0; size_of::<ConsoleBuffer>()];
        let start = u64::from(address);
        self.memory.read_slice(&mut header, GuestAddress(start)).ok()?;
        let length = ConsoleBuffer::read_from_bytes(&header).ok()?.length;
        if length > ENL_CONSOLE_MAX_BYTES {
            return None;
        }
        let text = start + header_bytes as u64;
        if !self.memory.check_range(GuestAddress(text), length as usize) {
            return None;
        }
        let end = text + u64::from(length);
        let mut piece = [0; PIECE_BYTES];
        for from in (text..end).step_by(PIECE_BYTES) {
            let count = (end - from).min(PIECE_BYTES as u64) as usize;
            self.memory.read_slice(&mut piece[..count], GuestAddress(from)).ok()?;
            // A terminal that is gone must not end the machine.
            let _ = self.output.write_all(&piece[..count]);
        }
        Some(())
    }
}

impl PortDevice for EnlPorts {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        if offset == ENL_PORT_LONG_SPINS {
            let count: u64 = self.vps.iter().map(VpStats::long_spins).sum();
            for (byte, value) in data.iter_mut().zip((count as u32).to_le_bytes()) {
                *byte = value;
            }
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        let value = little_endian(data);
        match offset {
            ENL_PORT_CONSOLE => {
                self.print(value);
                None
            }
            ENL_PORT_EXIT => Some(Request::End(Outcome::guest(Reason::GuestExit, value as u8))),
            ENL_PORT_MARK => Some(Request::Mark(Mark(value))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::test_output;
    use crate::stats::{SpinAnswer, lock};
    use std::sync::Mutex;

    const RAM_BYTES: usize = 0x4_0000;

    fn device() -> (EnlPorts, GuestMemoryMmap, Arc<Mutex<Vec<u8>>>) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_BYTES)]).unwrap();
        let (output, text) = test_output::buffer();
        let vps: Arc<[VpStats]> = vec![VpStats::default(), VpStats::default()].into();
        (EnlPorts::new(memory.clone(), output, vps), memory, text)
    }

    fn put(memory: &GuestMemoryMmap, address: u64, length: u32, text: &[u8]) {
        memory.write_slice(&length.to_le_bytes(), GuestAddress(address)).unwrap();
        memory.write_slice(text, GuestAddress(address + 4)).unwrap();
    }

    #[test]
    fn a_buffer_is_printed_whole() {
        let (mut device, memory, text) = device();
        let long = vec![b'x'; 3 * PIECE_BYTES + 17];
        put(&memory, 0x123, long.len() as u32, &long);
        assert_eq!(device.write(ENL_PORT_CONSOLE, &0x123_u32.to_le_bytes()), None);
        assert_eq!(*lock(&text), long);
    }

    #[test]
    fn buffers_that_are_too_long_or_leave_ram_print_nothing() {
        let (mut device, memory, text) = device();
        put(&memory, 0x1000, ENL_CONSOLE_MAX_BYTES + 1, b"x");
        put(&memory, 0x2000, u32::MAX, b"x");
        let last = RAM_BYTES as u64 - 2 * PIECE_BYTES as u64;
        put(&memory, last, 2 * PIECE_BYTES as u32, b"the first piece would fit");
        put(&memory, RAM_BYTES as u64 - 6, 3, b"xy");
        for address in
            [0x1000, 0x2000, last as u32, RAM_BYTES as u32 - 6, RAM_BYTES as u32 - 2, u32::MAX]
        {
            assert_eq!(device.write(ENL_PORT_CONSOLE, &address.to_le_bytes()), None);
        }
        assert!(lock(&text).is_empty());
    }

    #[test]
    fn exit_keeps_eight_bits() {
        let (mut device, _, _) = device();
        let Some(Request::End(outcome)) = device.write(ENL_PORT_EXIT, &0x1_02_u32.to_le_bytes())
        else {
            panic!("no end")
        };
        assert_eq!((outcome.reason, outcome.code), (Reason::GuestExit, 2));
    }

    #[test]
    fn marks_are_handed_on() {
        let (mut device, _, _) = device();
        let request = device.write(ENL_PORT_MARK, &2_u32.to_le_bytes());
        assert_eq!(request, Some(Request::Mark(Mark::MEASURE_BEGIN)));
    }

    #[test]
    fn long_spins_of_all_vps_are_readable() {
        let (mut device, _, _) = device();
        device.vps[0].count_long_spin(1, 2, SpinAnswer::Yielded);
        device.vps[1].count_long_spin(1, 2, SpinAnswer::Resumed);
        let mut word = [0xFF; 4];
        device.read(ENL_PORT_LONG_SPINS, &mut word);
        assert_eq!(word, [2, 0, 0, 0]);
        device.read(ENL_PORT_MARK, &mut word[..1]);
        assert_eq!(word, [2, 0, 0, 0], "a port without a meaning leaves the buffer alone");
    }
}
