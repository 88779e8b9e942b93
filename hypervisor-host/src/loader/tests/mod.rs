//! Tests of the loader: images are bytes written down by hand from the specifications, then patched.

mod bzimage;
mod elf;
mod files;
mod multiboot;
mod notes;
mod placement;
mod properties;
mod protocols;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{Boot, BootProtocolChoice, Image, LoadError, Payload, Problem, Role, Source, inspect};

const RSDP: GuestAddress = GuestAddress(0xE_0000);
const MIB: u64 = 1 << 20;

/// An ELF64 executable with two segments and a PVH note, field by field as the System V ABI has them.
#[rustfmt::skip]
const ELF: [u8; 0x130] = {
    let head: [u8; 0xE8] = [
        // e_ident: magic, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ABI 0, padding
        0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        2, 0,                       // 0x10 e_type ET_EXEC
        62, 0,                      // 0x12 e_machine EM_X86_64
        1, 0, 0, 0,                 // 0x14 e_version
        4, 0, 0x10, 0, 0, 0, 0, 0,  // 0x18 e_entry 0x100004
        64, 0, 0, 0, 0, 0, 0, 0,    // 0x20 e_phoff
        0, 0, 0, 0, 0, 0, 0, 0,     // 0x28 e_shoff
        0, 0, 0, 0,                 // 0x30 e_flags
        64, 0,                      // 0x34 e_ehsize
        56, 0,                      // 0x36 e_phentsize
        3, 0,                       // 0x38 e_phnum
        0, 0, 0, 0, 0, 0,           // 0x3A e_shentsize, e_shnum, e_shstrndx
        // Program header 0 at 0x40: code
        1, 0, 0, 0,                 // 0x40 p_type PT_LOAD
        5, 0, 0, 0,                 // 0x44 p_flags PF_R | PF_X
        0, 1, 0, 0, 0, 0, 0, 0,     // 0x48 p_offset 0x100
        0, 0, 0, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, // 0x50 p_vaddr
        0, 0, 0x10, 0, 0, 0, 0, 0,  // 0x58 p_paddr 0x100000
        16, 0, 0, 0, 0, 0, 0, 0,    // 0x60 p_filesz
        32, 0, 0, 0, 0, 0, 0, 0,    // 0x68 p_memsz
        0, 0x10, 0, 0, 0, 0, 0, 0,  // 0x70 p_align
        // Program header 1 at 0x78: data
        1, 0, 0, 0,                 // 0x78 p_type PT_LOAD
        6, 0, 0, 0,                 // 0x7C p_flags PF_R | PF_W
        0x10, 1, 0, 0, 0, 0, 0, 0,  // 0x80 p_offset 0x110
        0, 0x10, 0, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, // 0x88 p_vaddr
        0, 0x10, 0x10, 0, 0, 0, 0, 0, // 0x90 p_paddr 0x101000
        8, 0, 0, 0, 0, 0, 0, 0,     // 0x98 p_filesz
        0, 0x10, 0, 0, 0, 0, 0, 0,  // 0xA0 p_memsz 0x1000
        0, 0x10, 0, 0, 0, 0, 0, 0,  // 0xA8 p_align
        // Program header 2 at 0xB0: notes
        4, 0, 0, 0,                 // 0xB0 p_type PT_NOTE
        4, 0, 0, 0,                 // 0xB4 p_flags PF_R
        0x18, 1, 0, 0, 0, 0, 0, 0,  // 0xB8 p_offset 0x118
        0, 0, 0, 0, 0, 0, 0, 0,     // 0xC0 p_vaddr
        0, 0, 0, 0, 0, 0, 0, 0,     // 0xC8 p_paddr
        0x18, 0, 0, 0, 0, 0, 0, 0,  // 0xD0 p_filesz
        0x18, 0, 0, 0, 0, 0, 0, 0,  // 0xD8 p_memsz
        4, 0, 0, 0, 0, 0, 0, 0,     // 0xE0 p_align
    ];
    let tail: [u8; 0x30] = [
        // 0x100: 16 bytes of code
        0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF,
        // 0x110: 8 bytes of data
        0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7,
        // 0x118: namesz, descsz, type XEN_ELFNOTE_PHYS32_ENTRY, name, 8-byte entry 0x100008
        4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0,
        8, 0, 0x10, 0, 0, 0, 0, 0,
    ];
    let mut image = [0; 0x130];
    let mut at = 0;
    while at < head.len() {
        image[at] = head[at];
        at += 1;
    }
    at = 0;
    while at < tail.len() {
        image[0x100 + at] = tail[at];
        at += 1;
    }
    image
};

/// Offsets of fields in [`ELF`].
mod field {
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const IDENT_VERSION: usize = 6;
    pub(super) const TYPE: usize = 0x10;
    pub(super) const MACHINE: usize = 0x12;
    pub(super) const VERSION: usize = 0x14;
    pub(super) const ENTRY: usize = 0x18;
    pub(super) const PHOFF: usize = 0x20;
    pub(super) const PHENTSIZE: usize = 0x36;
    pub(super) const PHNUM: usize = 0x38;
    /// Program headers 0 (code), 1 (data), 2 (notes).
    pub(super) const PH: [usize; 3] = [0x40, 0x78, 0xB0];
    pub(super) const P_TYPE: usize = 0;
    pub(super) const P_FLAGS: usize = 4;
    pub(super) const P_OFFSET: usize = 8;
    pub(super) const P_PADDR: usize = 0x18;
    pub(super) const P_FILESZ: usize = 0x20;
    pub(super) const P_MEMSZ: usize = 0x28;
    pub(super) const P_ALIGN: usize = 0x30;
    /// The note: header, name, value.
    pub(super) const NOTE: usize = 0x118;
}

/// A bzImage of protocol 2.15 with one setup sector and a kernel of 1 KiB. Offsets from boot.rst.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400 + 0x400];
    patch(&mut image, 0x1F1, &[1]); // setup_sects
    patch(&mut image, 0x1F4, &[0x40, 0, 0, 0]); // syssize: 0x400 bytes
    patch(&mut image, 0x1FE, &[0x55, 0xAA]); // boot_flag
    patch(&mut image, 0x200, &[0xEB, 0x6A]); // jump to 0x26C
    patch(&mut image, 0x202, b"HdrS");
    patch(&mut image, 0x206, &[0x0F, 0x02]); // version
    patch(&mut image, 0x211, &[1]); // loadflags: LOADED_HIGH
    patch(&mut image, 0x22C, &[0xFF, 0xFF, 0xFF, 0x7F]); // initrd_addr_max
    patch(&mut image, 0x230, &[0, 0, 0x20, 0]); // kernel_alignment: 2 MiB
    patch(&mut image, 0x234, &[1]); // relocatable_kernel
    patch(&mut image, 0x236, &[1, 0]); // xloadflags: XLF_KERNEL_64
    patch(&mut image, 0x238, &[0xFF, 0x07, 0, 0]); // cmdline_size: 2047
    patch(&mut image, 0x258, &[0, 0, 0x20, 0, 0, 0, 0, 0]); // pref_address: 2 MiB
    patch(&mut image, 0x260, &[0, 0, 0x10, 0]); // init_size: 1 MiB
    image[0x400..].fill(0xB2);
    image
}

fn patch(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// [`ELF`] with some fields changed.
fn elf(patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = ELF.to_vec();
    for (offset, bytes) in patches {
        patch(&mut image, *offset, bytes);
    }
    image
}

fn kernel(bytes: &[u8]) -> Source<'_> {
    Source::from_bytes(Role::Kernel, "kernel.elf", bytes)
}

fn initrd(bytes: &[u8]) -> Source<'_> {
    Source::from_bytes(Role::Initrd, "initrd.cpio", bytes)
}

/// [`super::load`] without modules.
fn load(
    memory: &GuestMemoryMmap,
    image: &Image<'_>,
    initrd: Option<&Source<'_>>,
    command_line: &str,
    rsdp: GuestAddress,
    choice: BootProtocolChoice,
) -> Result<Boot, LoadError> {
    let payload = Payload { initrd, modules: &[], command_line };
    super::load(memory, image, payload, rsdp, choice)
}

/// Guest RAM in one piece from 0.
fn ram(bytes: u64) -> GuestMemoryMmap {
    ram_pieces(&[(0, bytes)])
}

fn ram_pieces(pieces: &[(u64, u64)]) -> GuestMemoryMmap {
    let pieces: Vec<_> =
        pieces.iter().map(|&(start, bytes)| (GuestAddress(start), bytes as usize)).collect();
    GuestMemoryMmap::from_ranges(&pieces).unwrap()
}

/// What [`inspect`] finds wrong with `image`.
fn inspect_problem(image: &[u8]) -> Problem {
    inspect(kernel(image)).expect_err("the image is wrong").problem
}

/// Inspects and loads `image` into 4 MiB without an initrd.
fn load_image(image: &[u8], choice: BootProtocolChoice) -> Result<Boot, LoadError> {
    load(&ram(4 * MIB), &inspect(kernel(image))?, None, "", RSDP, choice)
}

fn read<const N: usize>(memory: &GuestMemoryMmap, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}
