//! The address filter: what a setup frame said, and which frames pass (*Address Filtering*).
//!
//! Broadcast passes as any other address does: if it is entered.

use hv_abi::tulip::csr::Mode;
use hv_abi::tulip::setup::{
    FilterType, SETUP_ADDRESS_BYTES, SETUP_ADDRESSES, SETUP_FRAME_BYTES, SETUP_HASH_ADDRESS_OFFSET,
    SETUP_HASH_BITS,
};

use super::crc::crc32;
use crate::net::mac::MacAddress;

/// Bytes of a setup frame that count: the low halves of its longwords.
const LOW_HALVES: usize = SETUP_FRAME_BYTES / 2;

/// What the last setup frame said; at first, a list of addresses that no frame has.
pub(super) struct Filter {
    kind: FilterType,
    low: [u8; LOW_HALVES],
}

impl Default for Filter {
    fn default() -> Self {
        Self { kind: FilterType::PERFECT, low: [0; LOW_HALVES] }
    }
}

impl Filter {
    /// Takes a setup frame.
    pub(super) fn new(kind: FilterType, frame: &[u8; SETUP_FRAME_BYTES]) -> Self {
        let mut low = [0; LOW_HALVES];
        let halves = frame.chunks_exact(4).flat_map(|longword| longword.iter().take(2));
        for (byte, value) in low.iter_mut().zip(halves) {
            *byte = *value;
        }
        Self { kind, low }
    }

    /// The bits of CSR6 that say how it works.
    pub(super) fn mode(&self) -> Mode {
        match self.kind {
            FilterType::HASH => Mode::HP,
            FilterType::INVERSE => Mode::IF,
            FilterType::HASH_ONLY => Mode::HP | Mode::HO,
            _ => Mode::empty(),
        }
    }

    /// Whether a frame to `address` passes, with what else CSR6 says.
    pub(super) fn passes(&self, mode: Mode, address: MacAddress) -> bool {
        mode.contains(Mode::PR)
            || mode.contains(Mode::PM) && address.is_multicast()
            || self.recognizes(address)
    }

    fn recognizes(&self, address: MacAddress) -> bool {
        match self.kind {
            FilterType::HASH if address.is_multicast() => self.hashes(address),
            FilterType::HASH => self.address_at(SETUP_HASH_ADDRESS_OFFSET / 2) == Some(&address.0),
            FilterType::INVERSE => !self.lists(address),
            FilterType::HASH_ONLY => self.hashes(address),
            _ => self.lists(address),
        }
    }

    fn lists(&self, address: MacAddress) -> bool {
        let at = |index| self.address_at(index * SETUP_ADDRESS_BYTES / 2);
        (0..SETUP_ADDRESSES).any(|index| at(index) == Some(&address.0))
    }

    fn hashes(&self, address: MacAddress) -> bool {
        let index = crc32(&address.0) as usize % SETUP_HASH_BITS;
        self.low.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
    }

    fn address_at(&self, offset: usize) -> Option<&[u8; 6]> {
        self.low.get(offset..)?.first_chunk()
    }
}

#[cfg(test)]
mod tests;
