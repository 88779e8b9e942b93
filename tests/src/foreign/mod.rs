//! A test kernel of the kind that people bring: a Multiboot 1 image of its own, which knows nothing of our
//! kernel and finds its devices where QEMU has them.
//!
//! It is one image; the last word of the command line chooses what it does and prints:
//!
//! | word | |
//! | --- | --- |
//! | `boot` | what the boot loader hands over |
//! | `devices` | `fw_cfg`, and what `pc-testdev` has |
//! | `smp` | the start of all processors, by code at address 0 |
//! | `hyperv` | SINT routes, messages and events by `hyperv-testdev`, each status and slot |
//! | `connections` | messages and events between all processors at once |
//!
//! The same image runs on QEMU and on our host, and must print the same on both: QEMU's loader and devices are
//! the oracle of ours. The code is in `kernel/`.
#![expect(unsafe_code, reason = "reads the kernel's code from this program's own image")]

core::arch::global_asm!(
    ".pushsection .rodata.foreign,\"a\",@progbits",
    include_str!("kernel/start.s"),
    include_str!("kernel/boot.s"),
    include_str!("kernel/devices.s"),
    include_str!("kernel/smp.s"),
    include_str!("kernel/hyperv.s"),
    include_str!("kernel/connections.s"),
    ".globl foreign_start, foreign_end",
    "foreign_end:",
    ".code64",
    ".popsection",
    options(att_syntax),
);

/// Where the code is linked to run.
const LOAD_ADDRESS: u32 = 0x40_0000;
/// Bytes of the Multiboot header in front of the first instruction.
const HEADER_BYTES: u32 = 12;
/// Memory for the code and what it uses.
const MEMORY_BYTES: u32 = 0x10_0000;

/// Code and data, with the Multiboot header in front.
fn code() -> &'static [u8] {
    unsafe extern "C" {
        static foreign_start: u8;
        static foreign_end: u8;
    }
    let (start, end) = (&raw const foreign_start, &raw const foreign_end);
    // SAFETY: the assembler put all bytes between the two labels, into read-only data.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The kernel as an ELF32 executable with one segment (System V ABI, i386 supplement).
pub fn image() -> Vec<u8> {
    const ELF_HEADER: u16 = 52;
    const PROGRAM_HEADER: u16 = 32;
    let code = code();
    let mut image = Vec::new();
    image.extend(b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend([2_u16, 3].iter().flat_map(|half| half.to_le_bytes())); // ET_EXEC, EM_386
    let words = [1, LOAD_ADDRESS + HEADER_BYTES, ELF_HEADER.into(), 0, 0];
    image.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let halves = [ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0];
    image.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    let code_at = u32::from(ELF_HEADER + PROGRAM_HEADER);
    let bytes = code.len() as u32;
    // PT_LOAD, read, write and execute.
    let segment = [1, code_at, LOAD_ADDRESS, LOAD_ADDRESS, bytes, MEMORY_BYTES, 7, 4];
    image.extend(segment.iter().flat_map(|word| word.to_le_bytes()));
    image.extend(code);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lies_where_boot_loaders_look_and_its_checksum_is_right() {
        let image = image();
        let words: Vec<u32> = image[84..96]
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words[..2], [0x1BAD_B002, 0]);
        assert_eq!(words.iter().fold(0_u32, |sum, word| sum.wrapping_add(*word)), 0);
    }

    #[test]
    fn the_code_is_small_enough_for_its_own_data() {
        assert!((1000..0x8_0000).contains(&code().len()), "the stack ends at {LOAD_ADDRESS:#x}");
    }
}
