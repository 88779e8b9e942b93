//! A processor's stacks, each with a page below it that is not mapped.

use kernel::PAGE_SIZE;
use kernel::memory_map::Range;

/// Stacks of one processor, in order of address: what each is for.
///
/// Every vector has an IST stack, as the precompiled `core` uses the red zone below the stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Stack {
    /// Ordinary code.
    Main = 0,
    /// Interrupts.
    Interrupt = 1,
    /// Exceptions.
    Exception = 2,
    /// Non-maskable interrupts.
    Nmi = 3,
    /// Double faults and machine checks, which may come when another stack is broken.
    DoubleFault = 4,
}

/// Pages of each stack, without its guard.
const PAGES: [u64; 5] = [10, 2, 4, 3, 3];

/// Pages of all stacks of one processor, guards included.
pub(crate) const TOTAL_PAGES: u64 = {
    let mut total = 0;
    let mut index = 0;
    while index < PAGES.len() {
        total += 1 + PAGES[index];
        index += 1;
    }
    total
};

/// One processor's stacks in consecutive pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stacks {
    base: u64,
}

impl Stacks {
    /// Stacks in [`TOTAL_PAGES`] pages from `base` on.
    pub(crate) const fn new(base: u64) -> Self {
        Self { base }
    }

    /// The stack's bytes.
    pub(crate) fn range(&self, stack: Stack) -> Range {
        let index = stack as usize;
        let before: u64 = PAGES[..index].iter().map(|pages| pages + 1).sum();
        Range::new(self.base + (before + 1) * PAGE_SIZE, PAGES[index] * PAGE_SIZE)
    }

    /// The stack's guard page.
    pub(crate) fn guard(&self, stack: Stack) -> Range {
        Range::new(self.range(stack).start - PAGE_SIZE, PAGE_SIZE)
    }

    /// All of them.
    pub(crate) const ALL: [Stack; 5] =
        [Stack::Main, Stack::Interrupt, Stack::Exception, Stack::Nmi, Stack::DoubleFault];

    /// The stack that contains `address`.
    pub(crate) fn containing(&self, address: u64) -> Option<Range> {
        Self::ALL.iter().map(|&stack| self.range(stack)).find(|range| range.contains(address))
    }
}
