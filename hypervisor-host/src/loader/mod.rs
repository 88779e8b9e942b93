//! Loads a kernel, an initrd and a command line into guest RAM.
//!
//! Two steps, so that most bad input is told before anything else is set up: [`inspect`] reads and
//! checks the headers of a file; [`load`] places the image in RAM and writes what the boot protocol
//! hands to the kernel. Neither needs KVM.
//!
//! Every file is taken as hostile: arithmetic is checked, counts and sizes are bounded before they
//! are used, and nothing is allocated by a size that the file gives. Types of the boot protocols come
//! from `linux-loader`; its parsers are not used, because they check less than this.
//!
//! - `source`: where the bytes come from
//! - `elf`, `notes`, `bzimage`: the formats
//! - `memory_map`: what RAM there is and what is free
//! - `pvh`, `boot_params`: the two protocols

mod boot_params;
mod bytes;
mod bzimage;
mod elf;
mod error;
mod memory_map;
mod notes;
mod pvh;
mod source;
#[cfg(test)]
mod tests;

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use self::bzimage::BzImage;
use self::elf::ElfImage;
pub use self::error::{LoadError, Problem, Role};
use self::memory_map::Entry;
pub use self::source::Source;
use crate::layout;

/// Which boot protocol to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum BootProtocolChoice {
    /// PVH if the image has a PVH entry, else Linux's.
    #[default]
    Auto,
    /// PVH: 32-bit entry, `hvm_start_info` in EBX.
    Pvh,
    /// The Linux 64-bit protocol: 64-bit entry, `boot_params` in RSI.
    Linux64,
}

/// How the first virtual processor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// In 32-bit protected mode without paging, EBX = `start_info` (PVH).
    Pvh {
        /// Physical address of the first instruction.
        entry: u32,
        /// Where `hvm_start_info` lies.
        start_info: GuestAddress,
    },
    /// In long mode with identity-mapped memory, RSI = `boot_params` (Linux 64-bit protocol).
    Linux64 {
        /// Physical address of the first instruction, below 4 GiB.
        entry: u64,
        /// Where `boot_params` lies.
        boot_params: GuestAddress,
    },
}

/// A kernel image whose headers have been checked.
#[derive(Debug)]
pub struct Image<'a> {
    source: Source<'a>,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Elf(ElfImage),
    BzImage(BzImage),
}

/// What both protocols tell the kernel.
#[derive(Debug)]
struct BootData {
    memory_map: Vec<Entry>,
    initrd: Option<Range<u64>>,
    command_line_bytes: usize,
    rsdp: GuestAddress,
}

/// An entry point that has been checked.
#[derive(Debug, Clone, Copy)]
enum EntryPoint {
    Pvh(u32),
    Linux64(u64),
}

/// Reads and checks the headers of a kernel image: an ELF executable or a bzImage.
///
/// # Errors
/// Whatever is wrong with the file, as far as it shows without knowing the guest's RAM.
pub fn inspect(source: Source<'_>) -> Result<Image<'_>, LoadError> {
    match parse(&source) {
        Ok(format) => Ok(Image { source, format }),
        Err(problem) => Err(source.error(problem)),
    }
}

fn parse(source: &Source<'_>) -> Result<Format, Problem> {
    if source.bytes() == 0 {
        return Err(Problem::Empty);
    }
    let mut magic = [0; 4];
    if source.contains(0, 4) {
        source.read_at(0, &mut magic)?;
    }
    if magic == *b"\x7FELF" {
        Ok(Format::Elf(ElfImage::parse(source)?))
    } else if BzImage::recognises(source)? {
        Ok(Format::BzImage(BzImage::parse(source)?))
    } else {
        Err(Problem::UnknownFormat)
    }
}

impl Image<'_> {
    /// Checks that the image can be started by the protocol `choice`, without loading it.
    pub fn check_protocol(&self, choice: BootProtocolChoice) -> Result<(), LoadError> {
        self.entry_point(choice).map(|_| ()).map_err(|problem| self.source.error(problem))
    }

    /// Checks that `text` can be this image's command line, without loading it.
    pub fn check_command_line(&self, text: &str) -> Result<(), LoadError> {
        let room = layout::COMMAND_LINE_MAX_BYTES - 1;
        let limit = match &self.format {
            Format::Elf(_) => room,
            Format::BzImage(image) => image.command_line_limit.min(room),
        };
        let problem = if text.len() > limit {
            Problem::CommandLineTooLong { bytes: text.len(), limit }
        } else if text.as_bytes().contains(&0) {
            Problem::CommandLineHasNul
        } else {
            return Ok(());
        };
        Err(command_line_error(text, problem))
    }

    fn entry_point(&self, choice: BootProtocolChoice) -> Result<EntryPoint, Problem> {
        use BootProtocolChoice::{Auto, Linux64, Pvh};
        match (&self.format, choice) {
            (Format::Elf(ElfImage { pvh_entry: None, .. }) | Format::BzImage(_), Pvh) => {
                Err(Problem::NoPvhEntry)
            }
            (Format::Elf(image @ ElfImage { pvh_entry: Some(entry), .. }), Pvh | Auto) => {
                image.check_entry(u64::from(*entry))?;
                Ok(EntryPoint::Pvh(*entry))
            }
            (Format::Elf(image), Linux64 | Auto) => {
                image.check_entry(image.entry)?;
                Ok(EntryPoint::Linux64(image.entry))
            }
            (Format::BzImage(image), Linux64 | Auto) => Ok(EntryPoint::Linux64(image.entry()?)),
        }
    }

    /// The memory that the image takes.
    fn memory(&self) -> Vec<Range<u64>> {
        match &self.format {
            Format::Elf(image) => image.segments.iter().map(elf::Segment::memory).collect(),
            Format::BzImage(image) => vec![image.memory.clone()],
        }
    }

    fn initrd_limit(&self) -> u64 {
        match &self.format {
            // PVH tells a 64-bit address, but 32-bit entry code must reach it.
            Format::Elf(_) => layout::HOLE_END,
            Format::BzImage(image) => image.initrd_max.saturating_add(1),
        }
    }

    /// Checks that the image fits `ram`, then copies it there.
    fn place<M: GuestMemoryBackend>(&self, memory: &M, ram: &[Range<u64>]) -> Result<(), Problem> {
        match &self.format {
            Format::Elf(image) => place_segments(&self.source, &image.segments, memory, ram),
            Format::BzImage(image) => {
                if !memory_map::contains(ram, &image.memory) {
                    let Range { start, end } = image.memory;
                    let ram_bytes = memory_map::total_bytes(ram);
                    return Err(Problem::KernelTooBig { start, end, ram_bytes });
                }
                let target = GuestAddress(image.memory.start);
                self.source.copy_to(image.kernel_offset, image.kernel_bytes, memory, target)
            }
        }
    }
}

fn place_segments<M: GuestMemoryBackend>(
    source: &Source<'_>,
    segments: &[elf::Segment],
    memory: &M,
    ram: &[Range<u64>],
) -> Result<(), Problem> {
    if let Some(outside) = segments.iter().find(|it| !memory_map::contains(ram, &it.memory())) {
        return Err(Problem::SegmentOutsideRam {
            index: outside.index,
            address: outside.address,
            bytes: outside.memory_bytes,
            ram_bytes: memory_map::total_bytes(ram),
        });
    }
    for segment in segments {
        let target = GuestAddress(segment.address);
        source.copy_to(segment.offset, segment.file_bytes, memory, target)?;
    }
    Ok(())
}

/// Places `image`, `initrd` and `command_line` in `memory` and writes the boot protocol's data.
///
/// `memory` must be fresh: what the image wants zeroed is not written. `rsdp` is where the ACPI
/// tables start ([`crate::acpi::write_tables`]).
///
/// # Errors
/// Everything that does not fit, and a file that changed since it was inspected. Guest memory may
/// then be partly written; nothing outside the guest's RAM ever is.
pub fn load<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image<'_>,
    initrd: Option<&Source<'_>>,
    command_line: &str,
    rsdp: GuestAddress,
    choice: BootProtocolChoice,
) -> Result<Boot, LoadError> {
    let of_kernel = |problem| image.source.error(problem);
    let entry = image.entry_point(choice).map_err(of_kernel)?;
    image.check_command_line(command_line)?;
    let ram = memory_map::ram(memory);
    image.place(memory, &ram).map_err(of_kernel)?;
    let initrd = initrd.map(|initrd| place_initrd(memory, image, initrd, &ram)).transpose()?;
    write_command_line(memory, command_line)?;
    let data = BootData {
        memory_map: memory_map::entries(&ram),
        initrd,
        command_line_bytes: command_line.len(),
        rsdp,
    };
    write_protocol(memory, image, entry, &data).map_err(of_kernel)
}

fn write_protocol<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image<'_>,
    entry: EntryPoint,
    data: &BootData,
) -> Result<Boot, Problem> {
    match entry {
        EntryPoint::Pvh(entry) => Ok(Boot::Pvh { entry, start_info: pvh::write(memory, data)? }),
        EntryPoint::Linux64(entry) => {
            let header = match &image.format {
                Format::Elf(_) => None,
                Format::BzImage(image) => Some(image.setup_header.as_slice()),
            };
            Ok(Boot::Linux64 { entry, boot_params: boot_params::write(memory, data, header)? })
        }
    }
}

/// Puts the initrd as high as RAM and the kernel allow, away from the image.
fn place_initrd<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image<'_>,
    initrd: &Source<'_>,
    ram: &[Range<u64>],
) -> Result<Range<u64>, LoadError> {
    let bytes = initrd.bytes();
    let limit = image.initrd_limit();
    let Some(start) = memory_map::highest_gap(bytes, limit, ram, &image.memory()) else {
        let ram_bytes = memory_map::total_bytes(ram);
        return Err(initrd.error(Problem::InitrdTooLarge { bytes, ram_bytes }));
    };
    initrd
        .copy_to(0, bytes, memory, GuestAddress(start))
        .map_err(|problem| initrd.error(problem))?;
    Ok(start..start + bytes)
}

fn write_command_line<M: GuestMemoryBackend>(memory: &M, text: &str) -> Result<(), LoadError> {
    let end = GuestAddress(layout::COMMAND_LINE.0 + text.len() as u64);
    memory
        .write_slice(text.as_bytes(), layout::COMMAND_LINE)
        .and_then(|()| memory.write_slice(&[0], end))
        .map_err(|_| command_line_error(text, Problem::NoRamForBootData(layout::COMMAND_LINE.0)))
}

fn command_line_error(text: &str, problem: Problem) -> LoadError {
    const SHOWN_CHARACTERS: usize = 40;
    let mut name: String = text.escape_debug().take(SHOWN_CHARACTERS).collect();
    if text.chars().count() > SHOWN_CHARACTERS {
        name.push('…');
    }
    problem.of(Role::CommandLine, name)
}
