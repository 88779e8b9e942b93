//! The symbol table that a tool writes into the finished image (section `.ksyms`), and looking names up.
//!
//! Layout, little-endian: magic `ENLSYMS1`; `u32` number of symbols; `u32` bytes of names; for each
//! symbol, by ascending address, `u32` address and `u32` offset of its name; then the names, each one
//! length byte and as many bytes of UTF-8. A section that the tool has not filled begins with zeros.

use crate::phys::le32;

/// First bytes of a filled section.
pub const MAGIC: [u8; 8] = *b"ENLSYMS1";
/// Bytes before the first symbol.
pub const HEADER_BYTES: usize = 16;
/// Bytes for each symbol, without its name.
pub const SYMBOL_BYTES: usize = 8;
/// Longest name in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A symbol table in place.
#[derive(Debug, Clone, Copy)]
pub struct SymbolTable<'a> {
    symbols: &'a [u8],
    names: &'a [u8],
}

impl<'a> SymbolTable<'a> {
    /// The table in `section`, if it was filled and its sizes fit.
    pub fn new(section: &'a [u8]) -> Option<Self> {
        let body = section.strip_prefix(&MAGIC)?.get(8..)?;
        let symbols_bytes = (le32(section, 8) as usize).checked_mul(SYMBOL_BYTES)?;
        let (symbols, rest) = body.split_at_checked(symbols_bytes)?;
        Some(Self { symbols, names: rest.get(..le32(section, 12) as usize)? })
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.symbols.len() / SYMBOL_BYTES
    }

    /// Whether there are no symbols.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The symbol at or before `address`: its name and the distance from its beginning.
    pub fn lookup(&self, address: u64) -> Option<(&'a str, u64)> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if u64::from(le32(self.symbols, middle * SYMBOL_BYTES)) <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let at = low.checked_sub(1)? * SYMBOL_BYTES;
        let start = u64::from(le32(self.symbols, at));
        let name = self.names.get(le32(self.symbols, at + 4) as usize..)?;
        let (&length, name) = name.split_first()?;
        let name = core::str::from_utf8(name.get(..length.into())?).ok()?;
        Some((name, address - start))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Two symbols, `a` at 0x200000 and `bc` at 0x200010, written by hand from the layout.
    fn section() -> Vec<u8> {
        let mut bytes = b"ENLSYMS1\x02\0\0\0\x05\0\0\0".to_vec();
        bytes.extend([0, 0, 0x20, 0, 0, 0, 0, 0, 0x10, 0, 0x20, 0, 2, 0, 0, 0]);
        bytes.extend(b"\x01a\x02bc\0\0\0");
        bytes
    }

    #[test]
    fn addresses_belong_to_the_symbol_before_them() {
        let section = section();
        let table = SymbolTable::new(&section).unwrap();
        assert_eq!(table.lookup(0x1F_FFFF), None);
        assert_eq!(table.lookup(0x20_0000), Some(("a", 0)));
        assert_eq!(table.lookup(0x20_000F), Some(("a", 15)));
        assert_eq!(table.lookup(0x20_1010), Some(("bc", 0x1000)));
    }

    #[test]
    fn an_unfilled_section_is_no_table() {
        assert!(SymbolTable::new(&[0; 64]).is_none());
        assert!(SymbolTable::new(&[]).is_none());
    }

    #[test]
    fn sizes_beyond_the_section_are_no_table() {
        let mut count = section();
        count[8..12].fill(0xFF);
        assert!(SymbolTable::new(&count).is_none());
        let mut names = section();
        names[12] = 9;
        assert!(SymbolTable::new(&names).is_none());
        assert!(SymbolTable::new(&section()[..12]).is_none());
    }

    #[test]
    fn a_name_beyond_the_names_is_no_name() {
        for (offset, value) in [(28, 9), (34, 9), (35, 0xFF)] {
            let mut section = section();
            section[offset] = value;
            let table = SymbolTable::new(&section).unwrap();
            assert_eq!(table.lookup(0x20_0010), None, "{offset}");
        }
    }
}
