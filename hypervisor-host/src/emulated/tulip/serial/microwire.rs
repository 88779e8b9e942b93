//! The serial ROM's wires: a 93C46 that can be read. It is write-protected: other commands have no effect.

use hv_abi::tulip::srom::{SROM_ADDRESS_BITS, SROM_READ, SROM_WORDS};

/// Bits of a command behind its start bit.
const COMMAND_BITS: u32 = 2 + SROM_ADDRESS_BITS;

/// The ROM.
pub(super) struct Microwire {
    words: [u16; SROM_WORDS],
    clock: bool,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Waiting for a start bit.
    Start,
    /// Reading a command, of which there are so many bits.
    Command { bits: u32, count: u32 },
    /// Giving a word, highest bit first; `given` bits were given, and a zero before them.
    Word { word: u16, given: u32 },
    /// Nothing more until it is selected anew.
    Done,
}

impl Microwire {
    pub(super) fn new(words: [u16; SROM_WORDS]) -> Self {
        Self { words, clock: false, state: State::Start }
    }

    /// The lines are like this now.
    pub(super) fn drive(&mut self, select: bool, clock: bool, data: bool) {
        let rises = clock && !self.clock;
        self.clock = clock;
        if !select {
            self.state = State::Start;
        } else if rises {
            self.state = self.next(data);
        }
    }

    fn next(&self, data: bool) -> State {
        match self.state {
            State::Start if data => State::Command { bits: 0, count: 0 },
            State::Command { bits, count } => self.command(bits << 1 | u32::from(data), count + 1),
            State::Word { word, given } if given < u16::BITS => {
                State::Word { word, given: given + 1 }
            }
            State::Word { .. } => State::Done,
            state => state,
        }
    }

    fn command(&self, bits: u32, count: u32) -> State {
        if count < COMMAND_BITS {
            return State::Command { bits, count };
        }
        let address = bits as usize % SROM_WORDS;
        match self.words.get(address) {
            Some(word) if bits >> SROM_ADDRESS_BITS == u32::from(SROM_READ) => {
                State::Word { word: *word, given: 0 }
            }
            _ => State::Done,
        }
    }

    /// What it says: one, as on a line that nobody drives, unless it is giving a word.
    pub(super) fn out(&self) -> bool {
        match self.state {
            State::Word { given: 0, .. } => false,
            State::Word { word, given } => word >> (u16::BITS - given) & 1 != 0,
            _ => true,
        }
    }
}
