//! The chip's registers, by number.

use hv_abi::tulip::csr::Status;
use hv_abi::tulip::csr_offset;

use super::NOBODY;
use crate::pci::Registers32;

/// CSR0 to CSR15.
pub(super) struct Csrs<R>(R);

impl<R: Registers32> Csrs<R> {
    pub(super) const fn new(registers: R) -> Self {
        Self(registers)
    }

    pub(super) fn read(&self, number: u8) -> u32 {
        self.0.read(csr_offset(number) as u16)
    }

    pub(super) fn write(&self, number: u8, value: u32) {
        self.0.write(csr_offset(number) as u16, value);
    }

    /// Whether both processes have stopped. Nobody has nothing that runs.
    pub(super) fn is_stopped(&self) -> bool {
        let status = self.read(5);
        status & (Status::RS_MASK | Status::TS_MASK) == 0 || status == NOBODY
    }

    /// Looks until the processes have stopped, `looks` times at most. The end of a frame at 10 Mb/s is 1.3 ms away, some thousand accesses
    /// to a register.
    pub(super) fn wait_until_stopped(&self, looks: u32) -> bool {
        (0..looks).any(|_| self.is_stopped())
    }
}
