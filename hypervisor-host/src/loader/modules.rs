//! The initrd and the further modules of a Multiboot kernel: where they go and what they are called.

use std::ops::Range;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::error::{LoadError, Problem};
use super::memory_map;
use super::{Payload, Source};

/// Most modules, the initrd included.
pub const MAX_MODULES: usize = 64;

/// A Multiboot module.
#[derive(Debug)]
pub struct Module<'a> {
    /// Its content.
    pub source: Source<'a>,
    /// Words for the kernel; it finds them after the module's name.
    pub text: String,
}

/// A module that is in guest RAM.
#[derive(Debug)]
pub(super) struct PlacedModule {
    /// Where; the start is at a page's.
    pub(super) memory: Range<u64>,
    /// Name and words.
    pub(super) text: String,
}

/// A name and the words after it, as a shell would have them.
pub(super) fn name_and_text(name: &str, text: &str) -> String {
    match text {
        "" => name.to_owned(),
        text => format!("{name} {text}"),
    }
}

/// Checks what can be told without RAM. `multiboot`: whether the kernel takes more than an initrd.
pub(super) fn check(payload: &Payload<'_>, multiboot: bool) -> Result<(), LoadError> {
    let count = payload.modules.len() + usize::from(payload.initrd.is_some());
    for Module { source, text } in payload.modules {
        if !multiboot {
            return Err(source.error(Problem::ModuleNeedsMultiboot));
        }
        if count > MAX_MODULES {
            return Err(source.error(Problem::TooManyModules(count)));
        }
        if text.as_bytes().contains(&0) {
            return Err(source.error(Problem::ModuleTextHasNul));
        }
    }
    Ok(())
}

/// Puts the initrd, then the modules, as high as RAM and `limit` allow, away from what is `taken`.
pub(super) fn place_modules<M: GuestMemoryBackend>(
    memory: &M,
    payload: &Payload<'_>,
    mut taken: Vec<Range<u64>>,
    limit: u64,
    ram: &[Range<u64>],
) -> Result<Vec<PlacedModule>, LoadError> {
    let initrd = payload.initrd.map(|source| (source, ""));
    let modules = payload.modules.iter().map(|module| (&module.source, module.text.as_str()));
    let mut placed = Vec::new();
    for (source, text) in initrd.into_iter().chain(modules) {
        let range = place(memory, source, &taken, limit, ram)?;
        taken.push(range.clone());
        placed.push(PlacedModule { memory: range, text: name_and_text(source.name(), text) });
    }
    Ok(placed)
}

fn place<M: GuestMemoryBackend>(
    memory: &M,
    source: &Source<'_>,
    taken: &[Range<u64>],
    limit: u64,
    ram: &[Range<u64>],
) -> Result<Range<u64>, LoadError> {
    let bytes = source.bytes();
    let Some(start) = memory_map::highest_gap(bytes, limit, ram, taken) else {
        let ram_bytes = memory_map::total_bytes(ram);
        return Err(source.error(Problem::InitrdTooLarge { bytes, ram_bytes }));
    };
    source
        .copy_to(0, bytes, memory, GuestAddress(start))
        .map_err(|problem| source.error(problem))?;
    Ok(start..start + bytes)
}
