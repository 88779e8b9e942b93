//! Calls whose input is put together from pieces, in registers where it fits and in memory where it does not.

use hv_abi::hypercall::HypercallInput;

use super::registers::{GENERAL_BYTES, XMM_INPUT_MAX_BYTES};
use super::{
    CallBuffer, CallError, HypercallPage, buffer, check_reps, continue_until_done, registers,
};
use crate::cpu::Cpu;

impl<C: Cpu> HypercallPage<C> {
    /// Whether `bytes` of input go in registers here.
    pub(crate) fn takes_in_registers(&self, bytes: usize) -> bool {
        bytes <= GENERAL_BYTES || self.xmm_input && bytes <= XMM_INPUT_MAX_BYTES
    }

    /// A simple call without output, by the cheapest way there is.
    ///
    /// # Errors
    ///
    /// [`CallError::NoBuffer`] if the input needs memory and `buffer` is `None`.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound; the call may be fast; SSE is enabled.
    pub(crate) unsafe fn simple(
        &self,
        input: HypercallInput,
        buffer: Option<&mut CallBuffer>,
        pieces: &[&[u8]],
    ) -> Result<(), CallError> {
        let bytes = buffer::length(pieces).ok_or(CallError::TooLong)?;
        let result = if self.takes_in_registers(bytes) {
            let registers = registers::load(pieces).ok_or(CallError::TooLong)?;
            // SAFETY: the caller's contract is the same.
            unsafe { self.call_registers(input, bytes, &registers) }?
        } else {
            let blocks = buffer.ok_or(CallError::NoBuffer)?.fill(pieces, 0)?;
            // SAFETY: the block lies in the buffer's page, which is ours; the caller vouches for the rest.
            unsafe { self.call_blocks(input, &blocks) }
        };
        Ok(result.status()?)
    }

    /// As [`Self::simple`], a rep call of `count` elements, which is continued until it is done.
    ///
    /// # Safety
    ///
    /// As for [`Self::simple`].
    pub(crate) unsafe fn rep(
        &self,
        input: HypercallInput,
        buffer: Option<&mut CallBuffer>,
        pieces: &[&[u8]],
        count: u16,
    ) -> Result<(), (CallError, u16)> {
        let not_called = |error| (error, 0);
        check_reps(input, count).map_err(not_called)?;
        let bytes = buffer::length(pieces).ok_or((CallError::TooLong, 0))?;
        if self.takes_in_registers(bytes) {
            let registers = registers::load(pieces).ok_or((CallError::TooLong, 0))?;
            return continue_until_done(count, |done| {
                // SAFETY: the caller's contract is the same.
                unsafe { self.call_registers(input.with_reps(count, done), bytes, &registers) }
            });
        }
        let buffer = buffer.ok_or((CallError::NoBuffer, 0))?;
        let blocks = buffer.fill(pieces, 0).map_err(not_called)?;
        continue_until_done(count, |done| {
            // SAFETY: the block lies in the buffer's page, which is ours; the caller vouches for the rest.
            Ok(unsafe { self.call_blocks(input.with_reps(count, done), &blocks) })
        })
    }
}
