//! The Multiboot information: what EBX points to when the kernel starts (§3.3).
//!
//! It lies with all that it points to in one area of low memory, which the kernel finds in no list and
//! must not use before it has read it.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::super::error::Problem;
use super::super::memory_map::{Entry, Kind};
use super::super::{BootData, PlacedModule};
use crate::layout;

/// The name that kernels may print.
const BOOT_LOADER_NAME: &str = "hypervisor-host";

/// What this loader tells: memory sizes, command line, modules, memory map, its name.
const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
const KIB: u64 = 1024;
/// Bytes of the information up to and with `vbe_interface_len`; unused fields are zero.
const INFO_BYTES: usize = 88;
/// Room for the descriptor table in front.
const GDT_BYTES: u64 = 64;
const ALIGNMENT: u64 = 16;
/// Bytes of a memory map entry without its size field (§3.3, `mmap_length`).
const MAP_ENTRY_BYTES: u32 = 20;

/// Writes the information; the modules are in place already. Gives its address.
pub(in super::super) fn write<M: GuestMemoryBackend>(
    memory: &M,
    data: &BootData,
    command_line: &str,
) -> Result<GuestAddress, Problem> {
    let info = layout::MULTIBOOT_DATA.0 + GDT_BYTES;
    let mut area = Area::from((info + INFO_BYTES as u64).next_multiple_of(ALIGNMENT));
    let too_many = |_| Problem::TooManyModules(data.modules.len());
    let no_room = |_| Problem::ModuleTextTooLong;

    let modules_bytes = 16 * data.modules.len();
    let modules = area.reserve(modules_bytes).map_err(too_many)?;
    let map_bytes = map_bytes(&data.memory_map);
    let fragmented = |_| Problem::RamFragmented(data.memory_map.len());
    let map = area.add(&map_bytes).map_err(fragmented)?;
    let name = area.add(&terminated(BOOT_LOADER_NAME)).map_err(fragmented)?;
    let limit = area.room().saturating_sub(1);
    let too_long = |_| Problem::CommandLineTooLong { bytes: command_line.len(), limit };
    let command_line = area.add(&terminated(command_line)).map_err(too_long)?;
    let mut list = Vec::with_capacity(modules_bytes);
    for module in &data.modules {
        let text = area.add(&terminated(&module.text)).map_err(no_room)?;
        list.extend(module_bytes(module, text));
    }
    area.bytes.splice(..modules_bytes, list);

    let map_length = map_bytes.len() as u32;
    let mut fields = [0; INFO_BYTES / 4];
    fields[0] = FLAGS;
    fields[1] = (layout::LOW_RAM_END / KIB) as u32;
    fields[2] = upper_kib(&data.memory_map);
    fields[4] = command_line;
    fields[5] = data.modules.len() as u32;
    fields[6] = modules;
    fields[11] = map_length;
    fields[12] = map;
    fields[16] = name;
    let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
    memory
        .write_slice(&bytes, GuestAddress(info))
        .and_then(|()| memory.write_slice(&area.bytes, GuestAddress(area.start)))
        .map_err(|_| Problem::NoRamForBootData(info))?;
    Ok(GuestAddress(info))
}

/// Data that goes to consecutive addresses.
struct Area {
    start: u64,
    bytes: Vec<u8>,
}

/// The area is full.
struct Full;

impl Area {
    fn from(start: u64) -> Self {
        Self { start, bytes: Vec::new() }
    }

    fn room(&self) -> usize {
        (layout::MULTIBOOT_DATA_END - self.start) as usize - self.bytes.len()
    }

    /// Appends `bytes`; gives their address.
    fn add(&mut self, bytes: &[u8]) -> Result<u32, Full> {
        let address = self.start + self.bytes.len() as u64;
        if bytes.len() > self.room() {
            return Err(Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(address as u32)
    }

    fn reserve(&mut self, count: usize) -> Result<u32, Full> {
        if count > self.room() {
            return Err(Full);
        }
        self.add(&vec![0; count])
    }
}

const _: () = assert!(layout::MULTIBOOT_DATA_END <= layout::LOW_RAM_END);

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn module_bytes(module: &PlacedModule, text: u32) -> Vec<u8> {
    // Modules lie below 4 GiB, where 32-bit code reaches them.
    let fields = [module.memory.start as u32, module.memory.end as u32, text, 0];
    fields.iter().flat_map(|field| field.to_le_bytes()).collect()
}

fn map_bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = entry.range.end - entry.range.start;
        bytes.extend(MAP_ENTRY_BYTES.to_le_bytes());
        bytes.extend(entry.range.start.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend((entry.kind as u32).to_le_bytes());
    }
    bytes
}

/// KiB of RAM from 1 MiB up to the first hole.
fn upper_kib(entries: &[Entry]) -> u32 {
    let first = layout::HIGH_RAM_START.0;
    let upper = entries.iter().find(|entry| entry.kind == Kind::Ram && entry.range.start == first);
    let bytes = upper.map_or(0, |entry| entry.range.end - first);
    u32::try_from(bytes / KIB).unwrap_or(u32::MAX)
}
