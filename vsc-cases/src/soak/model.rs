//! What each block of a disk has, and which are in use by a request.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::block::Label;

/// The blocks that a soak uses.
pub(super) struct Model {
    run: u64,
    blocks: Range<u64>,
    generations: Vec<u64>,
    busy: Vec<Range<u64>>,
}

impl Model {
    /// Never written.
    pub(super) fn new(run: u64, blocks: Range<u64>) -> Self {
        let count = blocks.end.saturating_sub(blocks.start) as usize;
        Self { run, blocks, generations: vec![0; count], busy: Vec::new() }
    }

    /// Takes blocks for a request; `false` if another one has some of them.
    pub(super) fn claim(&mut self, blocks: &Range<u64>) -> bool {
        let overlaps = |other: &Range<u64>| other.start < blocks.end && blocks.start < other.end;
        let free = !self.busy.iter().any(overlaps);
        if free {
            self.busy.push(blocks.clone());
        }
        free
    }

    /// Gives them back.
    pub(super) fn release(&mut self, blocks: &Range<u64>) {
        if let Some(at) = self.busy.iter().position(|other| other == blocks) {
            self.busy.swap_remove(at);
        }
    }

    /// What a block must have.
    pub(super) fn newest(&self, number: u64) -> Label {
        let index = number.wrapping_sub(self.blocks.start) as usize;
        let generation = self.generations.get(index).copied().unwrap_or(0);
        Label { run: self.run, number, generation }
    }

    /// What it has when it is written once more.
    pub(super) fn next(&self, number: u64) -> Label {
        let newest = self.newest(number);
        Label { generation: newest.generation + 1, ..newest }
    }

    /// They were.
    pub(super) fn written(&mut self, blocks: &Range<u64>) {
        let index = |number: u64| number.saturating_sub(self.blocks.start) as usize;
        let (start, end) = (index(blocks.start), index(blocks.end));
        for generation in self.generations.iter_mut().take(end).skip(start) {
            *generation += 1;
        }
    }
}
