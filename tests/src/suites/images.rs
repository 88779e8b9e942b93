//! Tiny kernel images, made by hand, for guests that go wrong on purpose.

/// Loads an empty IDT and executes an undefined instruction: `lidt [zero]; ud2`, with six zero bytes
/// at [`LOAD_ADDRESS`] + 16 as the descriptor.
pub const TRIPLE_FAULT: &[u8] = &[
    0x0F, 0x01, 0x1D, 0x10, 0x00, 0x20, 0x00, // lidt [0x200010]
    0x0F, 0x0B, // ud2
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, // up to the descriptor
    0, 0, 0, 0, 0, 0,
];

/// Where [`pvh`] places its code.
pub const LOAD_ADDRESS: u32 = 0x20_0000;

/// An ELF64 image with one segment, `code`, entered at its first byte in 32-bit protected mode by PVH
/// (Xen's `docs/misc/pvh.pandoc`; note type 18, `XEN_ELFNOTE_PHYS32_ENTRY`).
pub fn pvh(code: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4_u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(LOAD_ADDRESS.to_le_bytes());

    const HEADERS: u64 = 64 + 2 * 56;
    let code_at = HEADERS + note.len() as u64;
    let mut image = Vec::new();
    image.extend(b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, EM_X86_64, EV_CURRENT
    for word in [u64::from(LOAD_ADDRESS), 64, 0] {
        image.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    image.extend(program_header(1, 5, code_at, code.len() as u64));
    image.extend(program_header(4, 4, HEADERS, note.len() as u64));
    image.extend(note);
    image.extend(code);
    image
}

fn program_header(kind: u32, flags: u32, offset: u64, bytes: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(flags.to_le_bytes());
    // A note is found through its file offset; only the code needs an address.
    let address = if kind == 1 { u64::from(LOAD_ADDRESS) } else { 0 };
    for word in [offset, address, address, bytes, bytes, 4] {
        header.extend(word.to_le_bytes());
    }
    header
}
