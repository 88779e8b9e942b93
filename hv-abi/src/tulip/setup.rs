//! The setup frame, which tells the chip what frames it is to receive (*Setup Frame*).
//!
//! Its descriptor has [`TX_SET`](super::descriptor::TX_SET), neither of the segment bits, and one buffer of
//! [`SETUP_FRAME_BYTES`]. Of each longword only the low half counts. Two bits of the descriptor say what it is:
//!
//! | FT1 | FT0 | [`FilterType`] | longwords 0 to 47 |
//! | --- | --- | --- | --- |
//! | 0 | 0 | perfect | 16 addresses, three longwords each |
//! | 0 | 1 | hash | 0 to 31: a table of 512 bits for multicast addresses; 39 to 41: the one physical address |
//! | 1 | 0 | inverse | 16 addresses whose frames are not received |
//! | 1 | 1 | hash only | 0 to 31: a table of 512 bits for all addresses |
//!
//! An address's place in the table is the low nine bits of its CRC-32, as Ethernet's check sequence (reflected, not
//! inverted at the end: Linux, `ether_crc_le`). Broadcast is an address like others: a driver enters it, too (Linux,
//! `tulip_core.c`, *21140 bug*; its hash is 255).

use super::descriptor::{TX_FT0, TX_FT1};

/// Bytes of a setup frame.
pub const SETUP_FRAME_BYTES: usize = 192;
/// Addresses in a setup frame for [`FilterType::PERFECT`] and [`FilterType::INVERSE`].
pub const SETUP_ADDRESSES: usize = 16;
/// Bytes that an address takes: three longwords with two bytes of it each.
pub const SETUP_ADDRESS_BYTES: usize = 12;
/// Bits of the table of hashes.
pub const SETUP_HASH_BITS: usize = 512;
/// Where the physical address is beside a table of hashes, in bytes.
pub const SETUP_HASH_ADDRESS_OFFSET: usize = 156;
/// Place of the broadcast address in the table of hashes.
pub const SETUP_HASH_BROADCAST: usize = 255;

/// How the filter works: FT1 and FT0 of a setup frame's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterType(pub u8);

impl FilterType {
    /// The addresses listed.
    pub const PERFECT: Self = Self(0);
    /// One physical address, multicast by hash.
    pub const HASH: Self = Self(1);
    /// All but the addresses listed.
    pub const INVERSE: Self = Self(2);
    /// All by hash.
    pub const HASH_ONLY: Self = Self(3);

    /// What a descriptor's second longword says.
    pub const fn of_control(control: u32) -> Self {
        Self((control & TX_FT0 != 0) as u8 | ((control & TX_FT1 != 0) as u8) << 1)
    }

    /// The bits for a descriptor's second longword.
    pub const fn control(self) -> u32 {
        (if self.0 & 1 != 0 { TX_FT0 } else { 0 }) | (if self.0 & 2 != 0 { TX_FT1 } else { 0 })
    }
}
