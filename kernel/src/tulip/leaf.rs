//! What the serial ROM says of the media of a 21140: which there are, and how the eight pins of CSR12 are to be set for them.
//!
//! Layout: *Digital Semiconductor 21X4 Serial ROM Format* 4; Linux, `eeprom.c` (`tulip_parse_eeprom`) and `media.c`
//! (`tulip_select_media`), which use it.

use alloc::vec::Vec;

use hv_abi::tulip::csr::Mode;
use hv_abi::tulip::srom::{BLOCK_EXTENDED, BLOCK_MII, SROM_BYTES, SROM_LEAF};

use super::rom::Rom;

/// Block type: media behind pins, with a length.
const BLOCK_PINS: u8 = 0;
/// Bytes in front of the blocks: medium to begin with, pins that are outputs, number of blocks.
const HEAD_BYTES: usize = 4;
/// Blocks that are looked at: there are fewer codes of media.
const MOST_BLOCKS: usize = 16;
/// The medium's code in a block of pins.
const CODE_MASK: u8 = 0x3F;
/// Code of 100BASE-TX.
pub(super) const CODE_100_TX: u8 = 3;
/// Bits of a command that go into CSR6, from [`Mode::PS`] on: port select, threshold, PCS, scrambler.
const COMMAND_MODE: u16 = 0x71;
/// Command: there is no pin that tells of a link.
const COMMAND_NO_SENSE: u16 = 1 << 15;
/// Command: the pin is low when there is a link.
const COMMAND_SENSE_LOW: u16 = 1 << 7;

/// A medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// Behind the pins.
    Pins(Pins),
    /// A transceiver on MII.
    Mii {
        /// Values of the pins, one after the other, that reset it.
        reset: Vec<u8>,
        /// Values that begin its work.
        start: Vec<u8>,
        /// What to advertise, as in its register; 0: what it can do.
        advertise: u16,
    },
}

/// A medium behind the pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pins {
    /// Which.
    pub(super) code: u8,
    /// The pins for it.
    pub(super) value: u8,
    command: u16,
}

impl Pins {
    /// Its bits in CSR6.
    pub(super) fn mode(self) -> Mode {
        Mode::from_bits_retain(
            u32::from(self.command & COMMAND_MODE) << Mode::PS.bits().trailing_zeros(),
        )
    }

    /// Whether there is a link, if a pin tells.
    pub(super) fn link(self, pins: u32) -> Option<bool> {
        let is_high = pins >> (self.command >> 1 & 7) & 1 != 0;
        let told = self.command & COMMAND_NO_SENSE == 0;
        told.then_some(is_high != (self.command & COMMAND_SENSE_LOW != 0))
    }
}

/// All media.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Leaf {
    /// Which pins are outputs.
    pub(super) outputs: u8,
    /// What there is.
    pub(super) blocks: Vec<Block>,
}

impl Leaf {
    /// What the ROM says; as much of it as makes sense.
    pub(super) fn parse(rom: &Rom) -> Self {
        let offset = usize::from(u16::from_le_bytes([rom.0[SROM_LEAF], rom.0[SROM_LEAF + 1]]));
        let leaf = rom.0.get(offset..SROM_BYTES).filter(|_| offset != 0).unwrap_or_default();
        let Some((&[_, _, outputs, count], mut rest)) = leaf.split_first_chunk::<HEAD_BYTES>()
        else {
            return Self::default();
        };
        let mut blocks = Vec::new();
        for _ in 0..usize::from(count).min(MOST_BLOCKS) {
            let Some((block, behind)) = split(rest) else { break };
            blocks.extend(parse_block(block));
            rest = behind;
        }
        Self { outputs, blocks }
    }

    /// The transceiver's sequences of pins, and what to advertise.
    pub(super) fn mii(&self) -> Option<(&[u8], &[u8], u16)> {
        self.blocks.iter().find_map(|block| match block {
            Block::Mii { reset, start, advertise } => Some((&reset[..], &start[..], *advertise)),
            Block::Pins(_) => None,
        })
    }

    /// The medium behind the pins to use: the fastest that is common.
    pub(super) fn pins(&self) -> Option<Pins> {
        let mut all = self.blocks.iter().filter_map(|block| match block {
            Block::Pins(pins) => Some(*pins),
            Block::Mii { .. } => None,
        });
        let first = all.clone().next();
        all.find(|pins| pins.code == CODE_100_TX).or(first)
    }
}

/// The first block, with its type in front, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let &first = bytes.first()?;
    if first & BLOCK_EXTENDED == 0 {
        return bytes.split_at_checked(4);
    }
    let length = usize::from(first & !BLOCK_EXTENDED) + 1;
    bytes.split_at_checked(length)
}

fn parse_block(block: &[u8]) -> Option<Block> {
    let (&first, rest) = block.split_first()?;
    let (kind, data) = match first & BLOCK_EXTENDED {
        0 => (BLOCK_PINS, block),
        _ => (*rest.first()?, rest.get(1..)?),
    };
    match kind {
        BLOCK_PINS => {
            let [code, value, low, high] = *data.first_chunk::<4>()?;
            let command = u16::from_le_bytes([low, high]);
            Some(Block::Pins(Pins { code: code & CODE_MASK, value, command }))
        }
        BLOCK_MII => {
            let (start, rest) = sequence(data.get(1..)?)?;
            let (reset, rest) = sequence(rest)?;
            let [_, _, low, high] = *rest.first_chunk::<4>()?;
            let advertise = u16::from_le_bytes([low, high]);
            Some(Block::Mii { reset: reset.into(), start: start.into(), advertise })
        }
        _ => None,
    }
}

/// Bytes behind their number, and what is behind them.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(length.into())
}
