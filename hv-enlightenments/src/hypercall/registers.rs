//! Parameters in registers.

use crate::cpu::FastRegisters;

/// Most bytes of input of an XMM fast call: RDX, R8 and six XMM registers.
pub const XMM_INPUT_MAX_BYTES: usize = size_of::<FastRegisters>();

/// The registers that hold `parameters`, padded with zeros; `None` if they don't fit.
pub(super) fn load(parameters: &[u8]) -> Option<FastRegisters> {
    let mut block = [0; XMM_INPUT_MAX_BYTES];
    block.get_mut(..parameters.len())?.copy_from_slice(parameters);
    let mut words = block.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let mut registers = FastRegisters::default();
    for register in registers.general.iter_mut().chain(registers.xmm.as_flattened_mut()) {
        *register = words.next()?;
    }
    Some(registers)
}
