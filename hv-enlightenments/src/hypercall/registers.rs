//! Parameters in registers.

use crate::cpu::FastRegisters;

/// Most bytes of input of an XMM fast call: RDX, R8 and six XMM registers.
pub const XMM_INPUT_MAX_BYTES: usize = size_of::<FastRegisters>();

/// Bytes of input that need no XMM register.
pub(super) const GENERAL_BYTES: usize = 16;

/// The registers that hold a block in pieces, padded with zeros; `None` if it doesn't fit.
pub(super) fn load(pieces: &[&[u8]]) -> Option<FastRegisters> {
    let mut block = [0; XMM_INPUT_MAX_BYTES];
    let mut rest = block.as_mut_slice();
    for piece in pieces {
        let (target, after) = rest.split_at_mut_checked(piece.len())?;
        target.copy_from_slice(piece);
        rest = after;
    }
    let mut words = block.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let mut registers = FastRegisters::default();
    for register in words_of(&mut registers) {
        *register = words.next()?;
    }
    Some(registers)
}

/// Where output begins behind `input_bytes` of input: at the next multiple of 16 (TLFS *XMM fast hypercall output*).
pub(super) fn output_offset(input_bytes: usize) -> Option<usize> {
    input_bytes.checked_next_multiple_of(16)
}

/// Copies the output that lies behind `input_bytes` of input; `None` if there is no room for as much.
pub(super) fn unload(
    mut registers: FastRegisters,
    input_bytes: usize,
    output: &mut [u8],
) -> Option<()> {
    let mut block = [0; XMM_INPUT_MAX_BYTES];
    for (target, word) in block.chunks_exact_mut(8).zip(words_of(&mut registers)) {
        target.copy_from_slice(&word.to_le_bytes());
    }
    let start = output_offset(input_bytes)?;
    let end = start.checked_add(output.len())?;
    output.copy_from_slice(block.get(start..end)?);
    Some(())
}

/// All registers in memory order.
fn words_of(registers: &mut FastRegisters) -> impl Iterator<Item = &mut u64> {
    registers.general.iter_mut().chain(registers.xmm.as_flattened_mut())
}
