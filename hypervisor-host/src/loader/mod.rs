//! Loads a kernel, its modules and a command line into guest RAM.
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
//! - `modules`: the initrd and other modules
//! - `pvh`, `boot_params`, `multiboot`: the three protocols

mod boot_params;
mod bytes;
mod bzimage;
mod elf;
mod error;
mod memory_map;
mod modules;
mod multiboot;
mod notes;
mod pvh;
mod source;
#[cfg(test)]
mod tests;

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use self::bzimage::BzImage;
use self::elf::{Class, ElfImage};
pub use self::error::{LoadError, Problem, Role};
use self::memory_map::Entry;
pub use self::modules::{MAX_MODULES, Module};
use self::modules::{PlacedModule, place_modules};
pub use self::multiboot::BOOTLOADER_MAGIC;
pub use self::source::Source;
use crate::layout;

/// Which boot protocol to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum BootProtocolChoice {
    /// PVH if the image has a PVH entry, else Multiboot if it has a Multiboot header, else Linux's.
    #[default]
    Auto,
    /// PVH: 32-bit entry, `hvm_start_info` in EBX.
    Pvh,
    /// The Linux 64-bit protocol: 64-bit entry, `boot_params` in RSI.
    Linux64,
    /// Multiboot 1: 32-bit entry, the Multiboot information in EBX.
    Multiboot,
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
    /// In 32-bit protected mode without paging, EAX = [`BOOTLOADER_MAGIC`], EBX = `info` (Multiboot 1).
    Multiboot {
        /// Physical address of the first instruction.
        entry: u32,
        /// Where the Multiboot information lies.
        info: GuestAddress,
    },
}

/// What goes to the kernel beside itself.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// The initrd: under Multiboot, the first module.
    pub initrd: Option<&'a Source<'a>>,
    /// Further modules, which only Multiboot knows.
    pub modules: &'a [Module<'a>],
    /// The command line.
    pub command_line: &'a str,
}

/// A kernel image whose headers have been checked.
#[derive(Debug)]
pub struct Image<'a> {
    source: Source<'a>,
    format: Format,
    /// How it is started by Multiboot, or why not, if it has a Multiboot header.
    multiboot: Option<Result<multiboot::Kernel, Problem>>,
}

#[derive(Debug)]
enum Format {
    Elf(ElfImage),
    BzImage(BzImage),
    /// Bytes that only a Multiboot header explains.
    Flat,
}

/// What all protocols tell the kernel.
#[derive(Debug)]
struct BootData {
    memory_map: Vec<Entry>,
    /// The initrd first; the others only under Multiboot.
    modules: Vec<PlacedModule>,
    command_line_bytes: usize,
    rsdp: GuestAddress,
}

impl BootData {
    fn initrd(&self) -> Option<&Range<u64>> {
        self.modules.first().map(|module| &module.memory)
    }
}

/// An entry point that has been checked, with the image as the protocol sees it.
#[derive(Debug, Clone, Copy)]
enum EntryPoint<'a> {
    Pvh(&'a ElfImage, u32),
    ElfLinux64(&'a ElfImage),
    BzImage(&'a BzImage, u64),
    Multiboot(&'a multiboot::Kernel),
}

/// All that lies below 1 MiB is for boot data and tables, except under Multiboot.
const LOW_MEMORY: Range<u64> = 0..layout::HIGH_RAM_START.0;

/// Reads and checks the headers of a kernel image: an ELF executable, a bzImage or a Multiboot kernel.
///
/// # Errors
/// Whatever is wrong with the file, as far as it shows without knowing the guest's RAM.
pub fn inspect(source: Source<'_>) -> Result<Image<'_>, LoadError> {
    match parse(&source) {
        Ok((format, multiboot)) => Ok(Image { source, format, multiboot }),
        Err(problem) => Err(source.error(problem)),
    }
}

type Parsed = (Format, Option<Result<multiboot::Kernel, Problem>>);

fn parse(source: &Source<'_>) -> Result<Parsed, Problem> {
    if source.bytes() == 0 {
        return Err(Problem::Empty);
    }
    let mut magic = [0; 4];
    if source.contains(0, 4) {
        source.read_at(0, &mut magic)?;
    }
    if magic == *b"\x7FELF" {
        parse_elf(source)
    } else if BzImage::recognises(source)? {
        Ok((Format::BzImage(BzImage::parse(source)?), None))
    } else {
        let header = multiboot::Header::find(source)?.filter(multiboot::Header::is_flat);
        let header = header.ok_or(Problem::UnknownFormat)?;
        Ok((Format::Flat, Some(Ok(multiboot::Kernel::parse(&header, None, source)?))))
    }
}

fn parse_elf(source: &Source<'_>) -> Result<Parsed, Problem> {
    let elf = ElfImage::parse(source)?;
    let Some(header) = multiboot::Header::find(source)? else {
        if elf.class == Class::Elf32 && elf.pvh_entry?.is_none() {
            return Err(Problem::Elf32WithoutEntry);
        }
        elf.pvh_entry?;
        elf.check_reserved(&LOW_MEMORY)?;
        return Ok((Format::Elf(elf), None));
    };
    let kernel = multiboot::Kernel::parse(&header, Some(&elf), source);
    Ok((Format::Elf(elf), Some(kernel)))
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
            Format::Elf(_) | Format::Flat => room,
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

    fn entry_point(&self, choice: BootProtocolChoice) -> Result<EntryPoint<'_>, Problem> {
        use BootProtocolChoice::{Auto, Linux64, Multiboot, Pvh};
        match (&self.format, choice) {
            (_, Multiboot) => self.multiboot_entry().ok_or(Problem::NoMultibootHeader)?,
            (Format::Elf(elf), Pvh) => pvh_entry(elf).ok_or(Problem::NoPvhEntry)?,
            (Format::Elf(elf), Linux64) => elf_linux64_entry(elf),
            (Format::Elf(elf), Auto) => pvh_entry(elf)
                .filter(|entry| entry.is_ok() || self.multiboot.is_none())
                .or_else(|| self.multiboot_entry())
                .unwrap_or_else(|| elf_linux64_entry(elf)),
            (Format::BzImage(image), Linux64 | Auto) => {
                Ok(EntryPoint::BzImage(image, image.entry()?))
            }
            (Format::BzImage(_) | Format::Flat, Pvh) => Err(Problem::NoPvhEntry),
            (Format::Flat, Linux64) => Err(Problem::Elf32NotLinux),
            (Format::Flat, Auto) => self.multiboot_entry().ok_or(Problem::NoMultibootHeader)?,
        }
    }

    fn multiboot_entry(&self) -> Option<Result<EntryPoint<'_>, Problem>> {
        let kernel = self.multiboot.as_ref()?.as_ref();
        Some(kernel.map(EntryPoint::Multiboot).map_err(|&problem| problem))
    }
}

fn pvh_entry(elf: &ElfImage) -> Option<Result<EntryPoint<'_>, Problem>> {
    let entry = match elf.pvh_entry {
        Ok(entry) => entry?,
        Err(problem) => return Some(Err(problem)),
    };
    let checked = elf.check_entry(entry.into()).and_then(|()| elf.check_reserved(&LOW_MEMORY));
    Some(checked.map(|()| EntryPoint::Pvh(elf, entry)))
}

fn elf_linux64_entry(elf: &ElfImage) -> Result<EntryPoint<'_>, Problem> {
    if elf.class == Class::Elf32 {
        return Err(Problem::Elf32NotLinux);
    }
    elf.check_entry(elf.entry)?;
    elf.check_reserved(&LOW_MEMORY)?;
    Ok(EntryPoint::ElfLinux64(elf))
}

impl EntryPoint<'_> {
    /// The memory that the image takes.
    fn memory(&self) -> Vec<Range<u64>> {
        match self {
            Self::BzImage(image, _) => vec![image.memory.clone()],
            Self::Pvh(ElfImage { segments, .. }, _)
            | Self::ElfLinux64(ElfImage { segments, .. })
            | Self::Multiboot(multiboot::Kernel { segments, .. }) => {
                segments.iter().map(elf::Segment::memory).collect()
            }
        }
    }

    /// Where the initrd and other modules must end.
    fn module_limit(&self) -> u64 {
        match self {
            // PVH tells a 64-bit address, but 32-bit entry code must reach it.
            Self::Pvh(..) | Self::ElfLinux64(_) | Self::Multiboot(_) => layout::HOLE_END,
            Self::BzImage(image, _) => image.initrd_max.saturating_add(1),
        }
    }

    /// Checks that the image fits `ram`, then copies it there.
    fn place<M: GuestMemoryBackend>(
        &self,
        source: &Source<'_>,
        memory: &M,
        ram: &[Range<u64>],
    ) -> Result<(), Problem> {
        match self {
            Self::Pvh(ElfImage { segments, .. }, _)
            | Self::ElfLinux64(ElfImage { segments, .. })
            | Self::Multiboot(multiboot::Kernel { segments, .. }) => {
                place_segments(source, segments, memory, ram)
            }
            Self::BzImage(image, _) => {
                if !memory_map::contains(ram, &image.memory) {
                    let Range { start, end } = image.memory;
                    let ram_bytes = memory_map::total_bytes(ram);
                    return Err(Problem::KernelTooBig { start, end, ram_bytes });
                }
                let target = GuestAddress(image.memory.start);
                source.copy_to(image.kernel_offset, image.kernel_bytes, memory, target)
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

/// Places `image` and `payload` in `memory` and writes the boot protocol's data.
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
    payload: Payload<'_>,
    rsdp: GuestAddress,
    choice: BootProtocolChoice,
) -> Result<Boot, LoadError> {
    let of_kernel = |problem| image.source.error(problem);
    let entry = image.entry_point(choice).map_err(of_kernel)?;
    image.check_command_line(payload.command_line)?;
    modules::check(&payload, matches!(entry, EntryPoint::Multiboot(_)))?;
    let ram = memory_map::ram(memory);
    entry.place(&image.source, memory, &ram).map_err(of_kernel)?;
    let modules = place_modules(memory, &payload, entry.memory(), entry.module_limit(), &ram)?;
    let data = BootData {
        memory_map: memory_map::entries(&ram),
        modules,
        command_line_bytes: payload.command_line.len(),
        rsdp,
    };
    if let EntryPoint::Multiboot(kernel) = entry {
        return write_multiboot(memory, image, kernel, &data, payload.command_line);
    }
    write_command_line(memory, payload.command_line)?;
    write_protocol(memory, entry, &data).map_err(of_kernel)
}

fn write_protocol<M: GuestMemoryBackend>(
    memory: &M,
    entry: EntryPoint<'_>,
    data: &BootData,
) -> Result<Boot, Problem> {
    let (entry, header) = match entry {
        EntryPoint::Pvh(_, entry) => {
            return Ok(Boot::Pvh { entry, start_info: pvh::write(memory, data)? });
        }
        EntryPoint::Multiboot(_) => return Err(Problem::NoMultibootHeader),
        EntryPoint::ElfLinux64(elf) => (elf.entry, None),
        EntryPoint::BzImage(image, entry) => (entry, Some(image.setup_header.as_slice())),
    };
    Ok(Boot::Linux64 { entry, boot_params: boot_params::write(memory, data, header)? })
}

/// Writes the Multiboot information, with the kernel's name in front of the command line.
fn write_multiboot<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image<'_>,
    kernel: &multiboot::Kernel,
    data: &BootData,
    text: &str,
) -> Result<Boot, LoadError> {
    let line = modules::name_and_text(image.source.name(), text);
    match multiboot::write(memory, data, &line) {
        Ok(info) => Ok(Boot::Multiboot { entry: kernel.entry, info }),
        Err(problem @ Problem::CommandLineTooLong { .. }) => Err(command_line_error(text, problem)),
        Err(problem) => Err(image.source.error(problem)),
    }
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
