//! What the PVH protocol hands to a kernel: `hvm_start_info`, its module list and memory map.
//!
//! Source: `xen/include/public/arch-x86/hvm/start_info.h`, version 1. All of it lies in one page.

use linux_loader::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::BootData;
use super::error::Problem;
use super::memory_map::Entry;
use crate::layout;

/// First version with a memory map.
const VERSION: u32 = 1;
const MODULE_LIST: u64 = layout::PVH_START_INFO.0 + 0x40;
const MEMORY_MAP: u64 = layout::PVH_START_INFO.0 + 0x80;
/// Entries of the memory map that fit the rest of the page.
const MAX_ENTRIES: usize = (0x1000 - 0x80) / size_of::<hvm_memmap_table_entry>();

const _: () = assert!(size_of::<hvm_start_info>() <= 0x40);
const _: () = assert!(size_of::<hvm_modlist_entry>() <= 0x40);
const _: () = assert!(layout::PVH_START_INFO.0 + 0x1000 <= layout::LINUX_BOOT_PARAMS.0);

/// Writes the start information; the command line and the initrd are in place already.
pub(super) fn write<M: GuestMemoryBackend>(
    memory: &M,
    data: &BootData,
) -> Result<GuestAddress, Problem> {
    if data.memory_map.len() > MAX_ENTRIES {
        return Err(Problem::RamFragmented(data.memory_map.len()));
    }
    let mut start_info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        cmdline_paddr: layout::COMMAND_LINE.0,
        rsdp_paddr: data.rsdp.0,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: u32::try_from(data.memory_map.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    let write = |result: Result<(), _>| result.map_err(|_| no_ram());
    if let Some(initrd) = data.initrd() {
        start_info.nr_modules = 1;
        start_info.modlist_paddr = MODULE_LIST;
        let module = hvm_modlist_entry {
            paddr: initrd.start,
            size: initrd.end - initrd.start,
            ..Default::default()
        };
        write(memory.write_obj(module, GuestAddress(MODULE_LIST)))?;
    }
    let map: Vec<hvm_memmap_table_entry> = data.memory_map.iter().map(map_entry).collect();
    for (entry, index) in map.into_iter().zip(0u64..) {
        let into = index * size_of::<hvm_memmap_table_entry>() as u64;
        write(memory.write_obj(entry, GuestAddress(MEMORY_MAP + into)))?;
    }
    write(memory.write_obj(start_info, layout::PVH_START_INFO))?;
    Ok(layout::PVH_START_INFO)
}

fn map_entry(entry: &Entry) -> hvm_memmap_table_entry {
    hvm_memmap_table_entry {
        addr: entry.range.start,
        size: entry.range.end - entry.range.start,
        type_: entry.kind as u32,
        reserved: 0,
    }
}

fn no_ram() -> Problem {
    Problem::NoRamForBootData(layout::PVH_START_INFO.0)
}
