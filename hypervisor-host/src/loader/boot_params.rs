//! What the Linux 64-bit protocol hands to a kernel: the zero page, `struct boot_params`.
//!
//! Source: `Documentation/x86/boot.rst`, `Documentation/x86/zero-page.rst` and
//! `arch/x86/include/uapi/asm/bootparam.h`; the offsets come from `linux-loader`'s translation of it.

use std::mem::offset_of;

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::BootData;
use super::bzimage::{SETUP_HEADER_MAX_END, SETUP_HEADER_START};
use super::error::Problem;
use super::memory_map::Entry;
use crate::layout;

const PAGE_BYTES: usize = 4096;
const HEADER: usize = offset_of!(boot_params, hdr);
const E820_TABLE: usize = offset_of!(boot_params, e820_table);
const E820_ENTRY_BYTES: usize = size_of::<boot_e820_entry>();
/// Entries that `e820_table` has room for (`E820_MAX_ENTRIES_ZEROPAGE`).
const E820_MAX_ENTRIES: usize = 128;

const BOOT_FLAG: u16 = 0xAA55;
const MAGIC: [u8; 4] = *b"HdrS";
/// What an ELF kernel is told: the newest protocol (Linux 5.5), of which nothing optional is used.
const PROTOCOL_VERSION: u16 = 0x020F;
/// `type_of_loader`: one without an id of its own.
const UNDEFINED_LOADER: u8 = 0xFF;
const LOADED_HIGH: u8 = 1 << 0;
const KERNEL_ALIGNMENT: u32 = 0x0100_0000;

const _: () = assert!(size_of::<boot_params>() == PAGE_BYTES);
const _: () = assert!(HEADER == SETUP_HEADER_START);
const _: () = assert!(E820_TABLE + E820_MAX_ENTRIES * E820_ENTRY_BYTES <= PAGE_BYTES);

/// Writes the zero page; the command line and the initrd are in place already.
///
/// `image_header` is the setup header of a bzImage; an ELF kernel has none and gets a minimal one.
pub(super) fn write<M: GuestMemoryBackend>(
    memory: &M,
    data: &BootData,
    image_header: Option<&[u8]>,
) -> Result<GuestAddress, Problem> {
    let page = ZeroPage::new(image_header).with(data)?;
    memory
        .write_slice(&page.0, layout::LINUX_BOOT_PARAMS)
        .map_err(|_| Problem::NoRamForBootData(layout::LINUX_BOOT_PARAMS.0))?;
    Ok(layout::LINUX_BOOT_PARAMS)
}

/// The page's bytes. Offsets are constants within it.
struct ZeroPage([u8; PAGE_BYTES]);

impl ZeroPage {
    fn new(image_header: Option<&[u8]>) -> Self {
        let mut page = Self([0; PAGE_BYTES]);
        match image_header {
            // `SETUP_HEADER_MAX_END` bounds what `bzimage` keeps of the header.
            Some(header) => page.put(HEADER, header),
            None => page.put_minimal_header(),
        }
        page.put_header(offset_of!(setup_header, type_of_loader), &[UNDEFINED_LOADER]);
        page.put_header(offset_of!(setup_header, setup_data), &[0; 8]);
        page
    }

    fn put_minimal_header(&mut self) {
        self.put_header(offset_of!(setup_header, boot_flag), &BOOT_FLAG.to_le_bytes());
        self.put_header(offset_of!(setup_header, header), &MAGIC);
        self.put_header(offset_of!(setup_header, version), &PROTOCOL_VERSION.to_le_bytes());
        self.put_header(offset_of!(setup_header, loadflags), &[LOADED_HIGH]);
        self.put_header(
            offset_of!(setup_header, kernel_alignment),
            &KERNEL_ALIGNMENT.to_le_bytes(),
        );
    }

    fn with(mut self, data: &BootData) -> Result<Self, Problem> {
        let count = data.memory_map.len();
        let count_field = u8::try_from(count).ok().filter(|_| count <= E820_MAX_ENTRIES);
        let count_field = count_field.ok_or(Problem::RamFragmented(count))?;
        self.put(offset_of!(boot_params, e820_entries), &[count_field]);
        for (entry, index) in data.memory_map.iter().zip(0usize..) {
            self.put(E820_TABLE + index * E820_ENTRY_BYTES, &e820_bytes(entry));
        }
        self.put(offset_of!(boot_params, acpi_rsdp_addr), &data.rsdp.0.to_le_bytes());

        let command_line = low_half(layout::COMMAND_LINE.0);
        self.put_header(offset_of!(setup_header, cmd_line_ptr), &command_line);
        self.put_header(
            offset_of!(setup_header, cmdline_size),
            &low_half(data.command_line_bytes as u64),
        );
        if let Some(initrd) = data.initrd() {
            let bytes = initrd.end - initrd.start;
            self.put_header(offset_of!(setup_header, ramdisk_image), &low_half(initrd.start));
            self.put_header(offset_of!(setup_header, ramdisk_size), &low_half(bytes));
            self.put(offset_of!(boot_params, ext_ramdisk_image), &high_half(initrd.start));
            self.put(offset_of!(boot_params, ext_ramdisk_size), &high_half(bytes));
        }
        Ok(self)
    }

    fn put_header(&mut self, offset: usize, bytes: &[u8]) {
        self.put(HEADER + offset, bytes);
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (target, byte) in self.0.iter_mut().skip(offset).zip(bytes) {
            *target = *byte;
        }
    }
}

const _: () = assert!(SETUP_HEADER_MAX_END <= E820_TABLE);

fn e820_bytes(entry: &Entry) -> [u8; E820_ENTRY_BYTES] {
    let mut bytes = [0; E820_ENTRY_BYTES];
    let fields = [entry.range.start, entry.range.end - entry.range.start, entry.kind as u64];
    let all = fields.iter().flat_map(|field| field.to_le_bytes());
    for (target, byte) in bytes.iter_mut().zip(all) {
        *target = byte;
    }
    bytes
}

fn low_half(value: u64) -> [u8; 4] {
    (value as u32).to_le_bytes()
}

fn high_half(value: u64) -> [u8; 4] {
    ((value >> 32) as u32).to_le_bytes()
}
