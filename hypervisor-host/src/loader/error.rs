//! What can be wrong with a file or a machine's memory when a kernel is loaded.
//!
//! A [`LoadError`] prints as one sentence in three parts: what failed, on what, what to do.

use std::fmt;
use std::io::ErrorKind;

/// Which input a problem is about; it decides the wording and the option that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The kernel image (`--kernel`).
    Kernel,
    /// The initial RAM disk (`--initrd`).
    Initrd,
    /// A further Multiboot module (`--module`).
    Module,
    /// The command line (`--cmdline`).
    CommandLine,
}

impl Role {
    /// The command line option that gave the input.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Kernel => "--kernel",
            Self::Initrd => "--initrd",
            Self::Module => "--module",
            Self::CommandLine => "--cmdline",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Module => "module",
            Self::CommandLine => "command line",
        })
    }
}

/// A [`Problem`] and the input that has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot load the {role} '{name}': {problem}")]
pub struct LoadError {
    /// Which input.
    pub role: Role,
    /// Path of the file, or the text itself (shortened) for a command line.
    pub name: String,
    /// What is wrong with it and what to do.
    pub problem: Problem,
}

/// What is wrong, and what to do about it. Segment numbers count program headers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    // The file as such.
    /// Nothing has this path.
    #[error("no such file; check the path")]
    NotFound,
    /// The operating system refused to open or read it.
    #[error("it can't be read ({0}); check the file and its permissions")]
    Unreadable(ErrorKind),
    /// A directory.
    #[error("it is a directory; name a file inside it")]
    IsDirectory,
    /// A device, pipe or socket.
    #[error("it is a device, pipe or socket; copy its content to a regular file")]
    NotRegular,
    /// A regular file without content.
    #[error("the file is empty; build or copy it again")]
    Empty,
    /// Fewer bytes came than the file had when it was opened.
    #[error("the file shrank while it was read; wait until whatever writes it is done")]
    Shrunk,

    // Either format.
    /// Neither an ELF file nor a Linux bzImage, nor a flat Multiboot image.
    #[error(
        "it is neither an ELF file nor a Linux bzImage nor a flat Multiboot image; give a kernel image"
    )]
    UnknownFormat,
    /// The chosen protocol enters the image where there is no code from the file.
    #[error(
        "its entry point {entry:#x} is not in an executable segment; link it with an entry inside the code"
    )]
    EntryNotExecutable {
        /// Guest-physical entry address.
        entry: u64,
    },
    /// The entry lies where the first page tables don't reach.
    #[error("its entry point {entry:#x} is above 4 GiB; link it at lower physical addresses")]
    EntryTooHigh {
        /// Guest-physical entry address.
        entry: u64,
    },
    /// PVH was asked for and the image can't do it.
    #[error("it has no PVH entry note (Xen note 18); use --boot linux64 or --boot auto")]
    NoPvhEntry,

    // ELF header and program headers.
    /// The file ends within the ELF header.
    #[error("the file ends within the ELF header; copy or build it again")]
    ElfHeaderTruncated,
    /// `EI_CLASS` is not 64-bit.
    #[error("it is not a 64-bit ELF file (class {0}); build it for x86-64")]
    ElfClass(u8),
    /// `EI_DATA` is not little-endian.
    #[error("it is not a little-endian ELF file (data encoding {0}); build it for x86-64")]
    ElfEndian(u8),
    /// `EI_VERSION` or `e_version` is not 1.
    #[error("it has ELF version {0}, not 1; build it again with a current linker")]
    ElfVersion(u32),
    /// `e_machine` is neither x86-64 nor, in a 32-bit file, the 386.
    #[error("it is for machine {0}, not x86-64 (62) or the 386 (3); build it for x86-64")]
    ElfMachine(u16),
    /// `e_type` is not an executable at fixed addresses.
    #[error(
        "it is of ELF type {0}, not an executable at fixed addresses (2); link it without -pie and -r"
    )]
    ElfType(u16),
    /// `e_phentsize` is not that of the file's class.
    #[error("its program headers have {0} bytes each, not 56 (32-bit: 32); build it again")]
    ProgramHeaderSize(u16),
    /// `e_phnum` is 0 or absurd.
    #[error("it has {0} program headers, not 1 to 128; build it again or strip it")]
    ProgramHeaderCount(u16),
    /// The table of program headers does not lie within the file.
    #[error("its program headers lie outside the file; copy or build it again")]
    ProgramHeadersOutsideFile,
    /// No `PT_LOAD` segment that takes memory.
    #[error("it has no loadable segment; link it as an executable")]
    NoSegments,
    /// A segment's bytes do not lie within the file.
    #[error("segment {0} ends outside the file; the file is truncated: copy or build it again")]
    SegmentOutsideFile(u16),
    /// `p_filesz` is larger than `p_memsz`.
    #[error("segment {0} has more bytes in the file than in memory; build it again")]
    SegmentFileSize(u16),
    /// Offset or address plus size exceeds 64 bits.
    #[error("segment {0} wraps around the end of the address space; build it again")]
    SegmentWraps(u16),
    /// A segment lies where boot data and the ACPI tables are.
    #[error(
        "segment {index} at {address:#x} lies below 1 MiB in memory that is reserved ({start:#x} to {end:#x}); link it higher"
    )]
    SegmentInReservedMemory {
        /// Which program header.
        index: u16,
        /// Its physical address.
        address: u64,
        /// First reserved address.
        start: u64,
        /// Address after the last reserved one.
        end: u64,
    },
    /// Two segments share memory.
    #[error("segments {0} and {1} overlap in memory; correct the linker script")]
    SegmentsOverlap(u16, u16),
    /// A segment does not lie in the guest's RAM.
    #[error(
        "segment {index} ({address:#x}, {bytes} bytes) lies outside the guest's RAM of {ram_bytes} bytes; give more --memory or link it lower"
    )]
    SegmentOutsideRam {
        /// Which program header.
        index: u16,
        /// Its physical address.
        address: u64,
        /// Its size in memory.
        bytes: u64,
        /// RAM of the machine.
        ram_bytes: u64,
    },
    /// A note does not lie within its segment, or a PVH note has no address of 4 or 8 bytes.
    #[error("the notes in segment {0} are malformed; build it again")]
    NotesMalformed(u16),
    /// A note segment larger than any real one.
    #[error("segment {0} has more than 64 KiB of notes; strip it")]
    NotesTooLarge(u16),
    /// Two PVH notes that disagree.
    #[error("it has two PVH entry notes that disagree; keep one of them")]
    PvhEntriesDisagree,

    // Multiboot.
    /// Multiboot was asked for and the image can't do it.
    #[error(
        "it has no Multiboot header (0x1BADB002) in its first 8 KiB; use --boot auto or a Multiboot kernel"
    )]
    NoMultibootHeader,
    /// A 32-bit ELF file that no protocol can start.
    #[error(
        "it is a 32-bit ELF file without a Multiboot header (0x1BADB002) in its first 8 KiB or a PVH entry note; add one, or build it as a 64-bit kernel"
    )]
    Elf32WithoutEntry,
    /// A 32-bit image can't be entered in 64-bit mode.
    #[error("it is a 32-bit image, which has no 64-bit entry; use --boot multiboot or --boot auto")]
    Elf32NotLinux,
    /// Flags among the 16 that a boot loader must obey or refuse.
    #[error(
        "its Multiboot header asks for features {0:#06x} that this host does not know; give a kernel without them"
    )]
    MultibootFlags(u32),
    /// Flag 2.
    #[error(
        "its Multiboot header asks for a video mode (flag 2) and this machine has no display; give a kernel without it"
    )]
    MultibootVideo,
    /// The address fields contradict one another or the file.
    #[error(
        "the address fields of its Multiboot header make no sense; correct them or give a Multiboot ELF file"
    )]
    MultibootAddresses,
    /// A module beside the initrd, for a kernel that takes none.
    #[error("only Multiboot kernels take modules; use --initrd for this kernel")]
    ModuleNeedsMultiboot,
    /// More modules than there is room to list.
    #[error("it is one of {0} modules, more than the {max} that can be given; give fewer", max = super::MAX_MODULES)]
    TooManyModules(usize),
    /// The strings of all modules together are too long.
    #[error("its name and text don't fit the room for boot data; shorten them")]
    ModuleTextTooLong,
    /// A zero byte in the string of a module.
    #[error("its text has a zero byte, which would end it early; remove it")]
    ModuleTextHasNul,

    // bzImage.
    /// The file ends within the setup header or before the kernel proper.
    #[error("the bzImage is truncated; copy or build it again")]
    BzImageTruncated,
    /// The setup header ends too early, or a field of it makes no sense.
    #[error("the bzImage has a malformed setup header; copy or build it again")]
    BzImageMalformed,
    /// Boot protocol before 2.12 (Linux 3.8).
    #[error("it has Linux boot protocol {major}.{minor}, older than 2.12; use Linux 3.8 or later",
        major = .0 >> 8, minor = .0 & 0xFF)]
    BzImageTooOld(u16),
    /// No 64-bit entry point.
    #[error("it has no 64-bit entry point; use a kernel built for x86-64")]
    BzImageNot64Bit,
    /// The kernel does not fit the guest's RAM.
    #[error(
        "it needs memory from {start:#x} to {end:#x}, which the guest's RAM of {ram_bytes} bytes does not have; give more --memory"
    )]
    KernelTooBig {
        /// First address it needs.
        start: u64,
        /// Address after the last it needs.
        end: u64,
        /// RAM of the machine.
        ram_bytes: u64,
    },

    // Initrd and command line.
    /// No free RAM is large enough for the initrd.
    #[error(
        "its {bytes} bytes don't fit beside the kernel in the guest's RAM of {ram_bytes} bytes; give more --memory or a smaller initrd"
    )]
    InitrdTooLarge {
        /// Size of the file.
        bytes: u64,
        /// RAM of the machine.
        ram_bytes: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("it has {bytes} bytes, more than the {limit} that this kernel takes; shorten it")]
    CommandLineTooLong {
        /// Its length.
        bytes: usize,
        /// Most that is allowed, without the terminating zero.
        limit: usize,
    },
    /// The command line has a zero byte.
    #[error("it has a zero byte, which would end it early; remove it")]
    CommandLineHasNul,

    // The machine.
    /// The RAM is in more pieces than the boot protocol can describe.
    #[error("the guest's RAM is in {0} pieces, more than the boot protocol can tell; use fewer")]
    RamFragmented(usize),
    /// RAM that boot data needs is not there.
    #[error("the guest has no RAM at {0:#x} for boot data; give more --memory")]
    NoRamForBootData(u64),
}

impl Problem {
    /// The error for this problem of the input `name`.
    pub(super) fn of(self, role: Role, name: impl Into<String>) -> LoadError {
        LoadError { role, name: name.into(), problem: self }
    }
}
