//! The image's own symbol table: the section `.ksyms`, which a tool fills after linking.

#![expect(unsafe_code, reason = "a section that is changed after linking")]

use kernel::symbols::SymbolTable;

/// Room for the table. Without optimization there are many times as many functions.
const BYTES: usize = if cfg!(debug_assertions) { 640 * 1024 } else { 224 * 1024 };

#[unsafe(link_section = ".ksyms")]
#[used]
static KSYMS: [u8; BYTES] = [0; BYTES];

/// The function that contains `address`, and how far into it the address lies.
pub(crate) fn lookup(address: u64) -> Option<(&'static str, u64)> {
    // The compiler must not conclude that the section is all zeros.
    let section: &'static [u8; BYTES] = core::hint::black_box(&KSYMS);
    SymbolTable::new(section)?.lookup(address)
}
