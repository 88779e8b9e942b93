//! What is written: a number, a generation, the run, words that follow from these, and a checksum over all.
//!
//! So what is read says by itself whether it is another block's, an older one's, an earlier run's, or nobody's.

use core::fmt;

use super::random::mix;

/// Bytes of a label at the beginning, and of the checksum at the end.
const LABEL: usize = 24;
const CHECKSUM: usize = 8;
/// The shortest block. Blocks are a multiple of 8 bytes long.
pub const MIN_BYTES: usize = LABEL + CHECKSUM;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Tells runs apart.
    pub run: u64,
    /// The block's number.
    pub number: u64,
    /// How often it was written.
    pub generation: u64,
}

/// Why a block is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The checksum does not fit: this was never written as it is.
    Corrupt,
    /// It was written, but elsewhere: this is what it says it is.
    Misplaced(Label),
    /// It was written here, but something newer should be here by now: this generation.
    Stale(u64),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("its checksum is wrong"),
            Self::Misplaced(label) => write!(f, "it is {label:?}"),
            Self::Stale(generation) => write!(f, "it is generation {generation}"),
        }
    }
}

impl Label {
    fn words(self) -> [u64; 3] {
        [self.run, self.number, self.generation]
    }

    fn seed(self) -> u64 {
        self.words().into_iter().fold(0, |seed, word| mix(seed ^ word))
    }

    /// Fills a block of at least [`MIN_BYTES`].
    pub fn fill(self, block: &mut [u8]) {
        let Some((body, checksum)) = block.split_last_chunk_mut::<CHECKSUM>() else { return };
        let (words, rest) = body.as_chunks_mut::<8>();
        let filler = Filler(self.seed());
        for (to, word) in words.iter_mut().zip(self.words().into_iter().chain(filler)) {
            *to = word.to_le_bytes();
        }
        rest.fill(0);
        *checksum = sum(body).to_le_bytes();
    }

    /// Looks whether a block is this.
    ///
    /// # Errors
    ///
    /// [`Wrong`].
    pub fn check(self, block: &[u8]) -> Result<(), Wrong> {
        let found = read(block).ok_or(Wrong::Corrupt)?;
        if found == self {
            return Ok(());
        }
        match (found.run, found.number) == (self.run, self.number) {
            true => Err(Wrong::Stale(found.generation)),
            false => Err(Wrong::Misplaced(found)),
        }
    }
}

/// What a block says it is, if its checksum is right.
pub fn read(block: &[u8]) -> Option<Label> {
    let (body, checksum) = block.split_last_chunk::<CHECKSUM>()?;
    let (words, _) = body.as_chunks::<8>();
    let [run, number, generation] = *words.first_chunk()?;
    let whole = sum(body) == u64::from_le_bytes(*checksum);
    let [run, number, generation] = [run, number, generation].map(u64::from_le_bytes);
    whole.then_some(Label { run, number, generation })
}

/// Over whole words; each step is a bijection of the sum, so no single wrong word goes unseen.
fn sum(body: &[u8]) -> u64 {
    let (words, _) = body.as_chunks::<8>();
    let step = |sum: u64, word: &[u8; 8]| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    };
    words.iter().fold(body.len() as u64 + 1, step)
}

struct Filler(u64);

impl Iterator for Filler {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
        Some(self.0)
    }
}
