//! Finishes the linked kernel: fills its symbol table in and leaves out what a virtual machine never loads.
//!
//! The linker leaves room for the symbol table (section `.ksyms`, laid out as `kernel::symbols` says), since
//! addresses are known only after linking. The finished image keeps its segments byte for byte and the headers
//! of the sections in them, so that tools still find the tests; everything else (symbols, debug information)
//! stays in the linked file, for debuggers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kernel::symbols::{HEADER_BYTES, MAGIC, MAX_NAME_BYTES, SYMBOL_BYTES};
use object::elf::{
    FileHeader64, SHF_ALLOC, SHN_UNDEF, SHT_NULL, STT_FUNC, STT_NOTYPE, SectionFlags,
    SectionHeader64, SymbolSection,
};
use object::endian::{LittleEndian, U16, U32, U64};
use object::pod::bytes_of;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use thiserror::Error;

type Header = FileHeader64<LittleEndian>;
type Sections<'data> = SectionTable<'data, Header>;
const ENDIAN: LittleEndian = LittleEndian;

/// Section with room for the symbol table.
const SYMBOLS_SECTION: &str = ".ksyms";
/// Section with the records of the tests.
const TESTS_SECTION: &str = ".enl.tests";
/// Bytes of a test's record, and of what a case's record points to (`docs/interfaces.md`).
const TEST_BYTES: usize = 32;
/// Names are cut to the first of these lengths with which all of them fit.
const NAME_LIMITS: [usize; 6] = [MAX_NAME_BYTES, 160, 100, 70, 50, 30];

/// What a finished image is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Functions in its symbol table.
    pub symbols: usize,
    /// Longest name in the table; longer ones were cut.
    pub name_limit: usize,
}

/// Why an image can't be finished or read.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file can't be read.
    #[error("cannot read the kernel image {path}: {source}; build it with `make build`", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can't be written.
    #[error("cannot write the finished kernel {path}: {source}; make room there or make the folder writable", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no kernel image.
    #[error("cannot use {path} as a kernel image: {reason}; build it anew with `make build`", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the linked kernel `input`, writes the finished one to `output`.
///
/// # Errors
///
/// [`ImageError`]; `output` is then as it was.
pub fn finish_image(input: &Path, output: &Path) -> Result<ImageInfo, ImageError> {
    let linked = read(input)?;
    let (image, info) = finish(&linked).map_err(|reason| malformed(input, reason))?;
    let failed = |source| ImageError::Write { path: output.to_owned(), source };
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Under another name first, so that nobody ever sees half an image.
    let partial = output.with_extension("partial");
    fs::write(&partial, image).map_err(failed)?;
    fs::rename(&partial, output).map_err(failed)?;
    Ok(info)
}

/// A case of the conformance matrix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaseInfo {
    /// The facility that it is about.
    pub facility: String,
    /// Its name, such as `synic::a_full_slot_sets_message_pending`.
    pub name: String,
    /// What it rests on, such as `TLFS §11.10.3`.
    pub source: String,
}

/// Names of the tests in a kernel image, linked or finished, in the order in which it runs them.
///
/// # Errors
///
/// [`ImageError`].
pub fn list_tests(image: &Path) -> Result<Vec<String>, ImageError> {
    let records = records(&read(image)?).map_err(|reason| malformed(image, reason))?;
    let plain = |record| match record {
        Record::Test(name) => Some(name),
        Record::Case(_) => None,
    };
    Ok(records.into_iter().filter_map(plain).collect())
}

/// The cases of the conformance matrix in a kernel image, linked or finished.
///
/// # Errors
///
/// [`ImageError`].
pub fn list_cases(image: &Path) -> Result<Vec<CaseInfo>, ImageError> {
    let records = records(&read(image)?).map_err(|reason| malformed(image, reason))?;
    let case = |record| match record {
        Record::Test(_) => None,
        Record::Case(case) => Some(case),
    };
    Ok(records.into_iter().filter_map(case).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

fn malformed(path: &Path, reason: String) -> ImageError {
    ImageError::Malformed { path: path.to_owned(), reason }
}

/// An ELF file of ours, parsed.
struct Elf<'data> {
    data: &'data [u8],
    header: &'data Header,
    sections: Sections<'data>,
}

impl<'data> Elf<'data> {
    fn parse(data: &'data [u8]) -> Result<Self, String> {
        let header = Header::parse(data).map_err(text)?;
        let sections = header.sections(ENDIAN, data).map_err(text)?;
        Ok(Self { data, header, sections })
    }

    fn section(&self, name: &str) -> Result<&'data SectionHeader64<LittleEndian>, String> {
        let found = self.sections.section_by_name(ENDIAN, name.as_bytes());
        found.map(|(_, section)| section).ok_or(format!("it has no section {name}"))
    }

    fn content(&self, name: &str) -> Result<&'data [u8], String> {
        self.section(name)?.data(ENDIAN, self.data).map_err(text)
    }

    /// The bytes at an address, as far as the file has them.
    fn at(&self, address: u64, length: u64) -> Option<&'data [u8]> {
        let segments = self.header.program_headers(ENDIAN, self.data).ok()?;
        let mut ranges =
            segments.iter().map(|segment| segment.data_range(ENDIAN, self.data, address, length));
        ranges.find_map(|range| range.ok().flatten())
    }
}

fn text(error: object::Error) -> String {
    error.to_string()
}

/// A record of the section.
enum Record {
    Test(String),
    Case(CaseInfo),
}

fn records(data: &[u8]) -> Result<Vec<Record>, String> {
    let elf = Elf::parse(data)?;
    let records = elf.content(TESTS_SECTION)?;
    if !records.len().is_multiple_of(TEST_BYTES) {
        return Err(format!("{TESTS_SECTION} is not an array of {TEST_BYTES}-byte records"));
    }
    records.chunks_exact(TEST_BYTES).map(|bytes| record(&elf, bytes)).collect()
}

fn record(elf: &Elf<'_>, bytes: &[u8]) -> Result<Record, String> {
    let name = string(elf, word(bytes, 0), word(bytes, 1))?;
    let info = word(bytes, 3);
    if info == 0 {
        return Ok(Record::Test(name));
    }
    let info = elf.at(info, TEST_BYTES as u64).ok_or("a case's record lies outside the image")?;
    let facility = string(elf, word(info, 0), word(info, 1))?;
    let source = string(elf, word(info, 2), word(info, 3))?;
    Ok(Record::Case(CaseInfo { facility, name, source }))
}

/// The 64-bit word with this index.
fn word(bytes: &[u8], index: usize) -> u64 {
    let at = bytes.get(index * 8..).and_then(|rest| rest.first_chunk());
    at.map_or(0, |&word| u64::from_le_bytes(word))
}

fn string(elf: &Elf<'_>, address: u64, length: u64) -> Result<String, String> {
    let bytes = elf.at(address, length).ok_or("a test's name lies outside the image")?;
    String::from_utf8(bytes.to_vec()).map_err(|_| "a test's name is not UTF-8".to_owned())
}

fn finish(linked: &[u8]) -> Result<(Vec<u8>, ImageInfo), String> {
    let elf = Elf::parse(linked)?;
    let mut image = segments(&elf)?;
    let (offset, room) =
        elf.section(SYMBOLS_SECTION)?.file_range(ENDIAN).ok_or(".ksyms is empty")?;
    let symbols = functions(&elf)?;
    let (table, name_limit) = symbol_table(&symbols, room as usize)?;
    let place = image.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..table.len()));
    place.ok_or(".ksyms lies outside the segments")?.copy_from_slice(&table);
    append_sections(&elf, &mut image)?;
    let file_bytes = image.len() as u64;
    Ok((image, ImageInfo { file_bytes, symbols: symbols.len(), name_limit }))
}

/// The file up to the end of the last segment.
fn segments(elf: &Elf<'_>) -> Result<Vec<u8>, String> {
    let headers = elf.header.program_headers(ENDIAN, elf.data).map_err(text)?;
    let end_of_headers = elf.header.e_phoff(ENDIAN) + size_of_val(headers) as u64;
    let ends = headers.iter().map(|segment| {
        let (offset, size) = segment.file_range(ENDIAN);
        offset.checked_add(size)
    });
    let end =
        ends.chain([Some(end_of_headers)]).try_fold(0, |end, next| next.map(|next| end.max(next)));
    let end = end.and_then(|end| usize::try_from(end).ok()).ok_or("a segment's size is absurd")?;
    elf.data.get(..end).map(<[u8]>::to_vec).ok_or("it ends within a segment".to_owned())
}

/// Functions by address; where several begin at one address the first counts.
fn functions(elf: &Elf<'_>) -> Result<BTreeMap<u32, String>, String> {
    let symbols = elf.sections.symbols(ENDIAN, elf.data, object::elf::SHT_SYMTAB).map_err(text)?;
    let text_section = elf.section(".text")?;
    let start = text_section.sh_addr(ENDIAN);
    let end = start.checked_add(text_section.sh_size(ENDIAN)).ok_or(".text wraps around")?;
    let mut functions = BTreeMap::new();
    for symbol in symbols.iter() {
        let address = symbol.st_value(ENDIAN);
        let is_code = matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE)
            && symbol.st_shndx(ENDIAN) != SHN_UNDEF
            && (start..end).contains(&address);
        if !is_code {
            continue;
        }
        let name = symbol.name(ENDIAN, symbols.strings()).map_err(text)?;
        let address = u32::try_from(address).map_err(|_| ".text lies above 4 GiB")?;
        functions.entry(address).or_insert_with(|| readable(&String::from_utf8_lossy(name)));
    }
    if functions.is_empty() {
        return Err("it has no symbols, it may be finished or stripped already".to_owned());
    }
    Ok(functions)
}

/// A symbol's name as in the source, without the compiler's hash.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// The table as `kernel::symbols` wants it, in at most `room` bytes, and the length names were cut to.
fn symbol_table(symbols: &BTreeMap<u32, String>, room: usize) -> Result<(Vec<u8>, usize), String> {
    let fits = |limit: &&usize| {
        let names: usize = symbols.values().map(|name| 1 + cut(name, **limit).len()).sum();
        HEADER_BYTES + symbols.len() * SYMBOL_BYTES + names <= room
    };
    let limit = *NAME_LIMITS.iter().find(fits).ok_or_else(|| {
        format!("{} functions do not fit in {room} bytes of {SYMBOLS_SECTION}", symbols.len())
    })?;
    let (mut entries, mut names) = (Vec::new(), Vec::new());
    for (address, name) in symbols {
        let name = cut(name, limit);
        entries.extend(address.to_le_bytes());
        entries.extend((names.len() as u32).to_le_bytes());
        names.push(name.len() as u8);
        names.extend(name.as_bytes());
    }
    let counts = [symbols.len() as u32, names.len() as u32].map(u32::to_le_bytes);
    Ok(([&MAGIC[..], counts.as_flattened(), &entries, &names].concat(), limit))
}

/// The end of a name says more than its beginning, which is a path.
fn cut(name: &str, limit: usize) -> &str {
    let mut from = name.len().saturating_sub(limit);
    while !name.is_char_boundary(from) {
        from += 1;
    }
    &name[from..]
}

/// Appends headers of the sections that lie in segments, and their names.
fn append_sections(elf: &Elf<'_>, image: &mut Vec<u8>) -> Result<(), String> {
    let mut names = b"\0".to_vec();
    let mut headers = vec![empty_section()];
    let kept = |section: &&SectionHeader64<LittleEndian>| {
        section.sh_flags(ENDIAN) & SHF_ALLOC != SectionFlags(0)
    };
    for section in elf.sections.iter().filter(kept) {
        let name = elf.sections.section_name(ENDIAN, section).map_err(text)?;
        let mut section = *section;
        section.sh_name = U32::new(ENDIAN, names.len() as u32);
        section.sh_link = zero32();
        names.extend(name);
        names.push(0);
        headers.push(section);
    }
    let name_of_names = names.len() as u32;
    names.extend(b".shstrtab\0");
    headers.push(SectionHeader64 {
        sh_name: U32::new(ENDIAN, name_of_names),
        sh_type: U32::new(ENDIAN, object::elf::SHT_STRTAB),
        sh_offset: U64::new(ENDIAN, image.len() as u64),
        sh_size: U64::new(ENDIAN, names.len() as u64),
        sh_addralign: U64::new(ENDIAN, 1),
        ..empty_section()
    });
    image.extend(&names);
    image.resize(image.len().next_multiple_of(8), 0);
    let mut header = *elf.header;
    header.e_shoff = U64::new(ENDIAN, image.len() as u64);
    header.e_shnum = U16::new(ENDIAN, headers.len() as u16);
    header.e_shstrndx = U16::new(ENDIAN, SymbolSection(headers.len() as u16 - 1));
    headers.iter().for_each(|section| image.extend(bytes_of(section)));
    let place = image.get_mut(..size_of::<Header>()).ok_or("it is shorter than its header")?;
    place.copy_from_slice(bytes_of(&header));
    Ok(())
}

fn zero32() -> U32<LittleEndian> {
    U32::new(ENDIAN, 0)
}

fn empty_section() -> SectionHeader64<LittleEndian> {
    let zero = U64::new(ENDIAN, 0);
    SectionHeader64 {
        sh_name: zero32(),
        sh_type: U32::new(ENDIAN, SHT_NULL),
        sh_flags: U64::new(ENDIAN, SectionFlags(0)),
        sh_addr: zero,
        sh_offset: zero,
        sh_size: zero,
        sh_link: zero32(),
        sh_info: zero32(),
        sh_addralign: zero,
        sh_entsize: zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::symbols::SymbolTable;

    fn symbols(names: &[&str]) -> BTreeMap<u32, String> {
        (0x20_0000..).step_by(16).zip(names.iter().map(|&name| name.to_owned())).collect()
    }

    #[test]
    fn the_kernel_finds_names_in_the_table() {
        let (table, limit) = symbol_table(&symbols(&["a::b", "c"]), 100).unwrap();
        assert_eq!(limit, MAX_NAME_BYTES);
        let table = SymbolTable::new(&table).unwrap();
        assert_eq!(table.lookup(0x20_0004), Some(("a::b", 4)));
        assert_eq!(table.lookup(0x20_0010), Some(("c", 0)));
    }

    #[test]
    fn the_table_has_the_documented_bytes() {
        let (table, _) = symbol_table(&symbols(&["a", "bc"]), 100).unwrap();
        let expected =
            b"ENLSYMS1\x02\0\0\0\x05\0\0\0\0\0\x20\0\0\0\0\0\x10\0\x20\0\x02\0\0\0\x01a\x02bc";
        assert_eq!(table, expected);
    }

    #[test]
    fn names_are_cut_from_the_front_until_all_fit() {
        let long = "x".repeat(200) + "::end";
        let (table, limit) = symbol_table(&symbols(&[&long, &long]), 16 + 16 + 2 * 101).unwrap();
        assert_eq!(limit, 100);
        let table = SymbolTable::new(&table).unwrap();
        let (name, _) = table.lookup(0x20_0000).unwrap();
        assert!(name.ends_with("x::end") && name.len() == 100);
        assert!(symbol_table(&symbols(&[&long]), 40).unwrap_err().contains("do not fit"));
        assert_eq!(cut("aß", 1), "");
    }

    #[test]
    fn names_lose_their_mangling_and_hash() {
        let symbol = "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE";
        assert_eq!(readable(symbol), "core::fmt::Write::write_fmt");
    }

    #[test]
    fn files_that_are_no_images_are_refused_in_one_sentence() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\nexit 0\n", &[0x7F; 200]] {
            assert!(finish(bytes).is_err());
            assert!(records(bytes).is_err());
        }
        let error = list_tests(Path::new("/nonexistent/kernel")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the kernel image /nonexistent/kernel: "), "{error}");
        assert!(error.ends_with("; build it with `make build`"), "{error}");
    }
}
