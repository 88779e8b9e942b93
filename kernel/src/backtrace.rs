//! Walking frame pointers, with distrust: a broken stack must not break the report about it.

use crate::memory_map::Range;

/// Most frames that a walk gives.
pub const MAX_FRAMES: usize = 32;

/// Return addresses, innermost first, from the frame pointer `rbp` on.
///
/// `read` gives the word at an address; it is asked only for aligned addresses within `stack`. The walk
/// ends at the first frame that leaves the stack, does not lie above its predecessor or was not called
/// from `text`.
pub fn walk(
    rbp: u64,
    stack: Range,
    text: Range,
    read: impl Fn(u64) -> u64,
) -> impl Iterator<Item = u64> {
    let mut frame = rbp;
    let mut lowest = stack.start;
    core::iter::from_fn(move || {
        let fits = frame >= lowest && frame.checked_add(16).is_some_and(|end| end <= stack.end);
        if !fits || !frame.is_multiple_of(8) {
            return None;
        }
        let caller = read(frame + 8);
        lowest = frame + 16;
        frame = read(frame);
        text.contains(caller).then_some(caller)
    })
    .take(MAX_FRAMES)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const STACK: Range = Range { start: 0x1000, end: 0x1080 };
    const TEXT: Range = Range { start: 0x20_0000, end: 0x30_0000 };

    fn frames(rbp: u64, words: &[(u64, u64)]) -> Vec<u64> {
        let read = |at| {
            assert!(STACK.contains(at) && STACK.contains(at + 7), "{at:#x} is not in the stack");
            words.iter().find(|word| word.0 == at).map_or(0, |word| word.1)
        };
        walk(rbp, STACK, TEXT, read).collect()
    }

    #[test]
    fn frames_are_followed_outwards() {
        let words = [(0x1010, 0x1040), (0x1018, 0x20_0001), (0x1040, 0), (0x1048, 0x20_0002)];
        assert_eq!(frames(0x1010, &words), [0x20_0001, 0x20_0002]);
    }

    #[test]
    fn a_cycle_ends() {
        let words = [(0x1010, 0x1010), (0x1018, 0x20_0001)];
        assert_eq!(frames(0x1010, &words), [0x20_0001]);
        let back = [(0x1040, 0x1010), (0x1048, 0x20_0001), (0x1018, 0x20_0002)];
        assert_eq!(frames(0x1040, &back), [0x20_0001]);
    }

    #[test]
    fn nothing_outside_the_stack_or_unaligned_is_read() {
        for rbp in [0, 0xFF8, 0x1078, 0x1080, 0x1011, u64::MAX, u64::MAX - 7] {
            assert_eq!(frames(rbp, &[]), []);
        }
    }

    #[test]
    fn an_address_outside_the_text_ends_the_walk() {
        let words = [(0x1010, 0x1040), (0x1018, 0x30_0000), (0x1048, 0x20_0002)];
        assert_eq!(frames(0x1010, &words), []);
    }
}
