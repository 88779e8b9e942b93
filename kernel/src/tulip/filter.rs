//! Which frames to receive, and the setup frame that tells the chip.
//!
//! Up to 16 addresses are compared whole. Beyond, the chip has a table of hashes, which lets frames for others pass by chance; those are
//! sorted out here.

use alloc::vec::Vec;

use hv_abi::tulip::csr::Mode;
use hv_abi::tulip::setup::{
    FilterType, SETUP_ADDRESS_BYTES, SETUP_ADDRESSES, SETUP_FRAME_BYTES, SETUP_HASH_ADDRESS_OFFSET,
    SETUP_HASH_BITS,
};

use super::rom::crc32;

/// To all.
const BROADCAST: [u8; 6] = [0xFF; 6];

/// Which frames to receive beside those for the station and for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// To these addresses, of groups or of stations.
    pub addresses: Vec<[u8; 6]>,
    /// To any group.
    pub all_multicast: bool,
    /// All.
    pub promiscuous: bool,
}

/// What the chip is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) frame: [u8; SETUP_FRAME_BYTES],
    pub(super) kind: FilterType,
}

impl Filter {
    /// Its bits in CSR6.
    pub(super) fn mode(&self) -> Mode {
        match (self.promiscuous, self.all_multicast) {
            (true, _) => Mode::PR | Mode::PM,
            (false, true) => Mode::PM,
            (false, false) => Mode::empty(),
        }
    }

    /// Whether there are more addresses than the chip compares whole.
    pub(super) fn is_coarse(&self) -> bool {
        self.addresses.len() + 2 > SETUP_ADDRESSES
    }

    /// The setup frame of a station with this address.
    pub(super) fn setup(&self, mac: [u8; 6]) -> Setup {
        if !self.is_coarse() {
            return self.perfect(mac);
        }
        let groups_only = self.addresses.iter().all(is_group);
        let kind = if groups_only { FilterType::HASH } else { FilterType::HASH_ONLY };
        let mut frame = [0; SETUP_FRAME_BYTES];
        let own = Some(&mac).filter(|_| !groups_only);
        for address in self.addresses.iter().chain(own).chain([&BROADCAST]) {
            enter_hash(&mut frame, address);
        }
        enter(&mut frame, SETUP_HASH_ADDRESS_OFFSET, &mac);
        Setup { frame, kind }
    }

    fn perfect(&self, mac: [u8; 6]) -> Setup {
        let mut frame = [0; SETUP_FRAME_BYTES];
        let addresses = [mac, BROADCAST].into_iter().chain(self.addresses.iter().copied());
        // Unused places repeat an address: none of them must be anything else.
        let all = addresses.chain(core::iter::repeat(mac)).take(SETUP_ADDRESSES);
        for (address, place) in all.zip(0..) {
            enter(&mut frame, place * SETUP_ADDRESS_BYTES, &address);
        }
        Setup { frame, kind: FilterType::PERFECT }
    }

    /// Whether a frame for `destination` is wanted, whatever the chip thought.
    pub(super) fn wants(&self, mac: &[u8; 6], destination: &[u8; 6]) -> bool {
        self.promiscuous
            || destination == mac
            || *destination == BROADCAST
            || (self.all_multicast && is_group(destination))
            || self.addresses.contains(destination)
    }
}

fn is_group(address: &[u8; 6]) -> bool {
    address[0] & 1 != 0
}

/// Two bytes of an address in each of three longwords.
fn enter(frame: &mut [u8; SETUP_FRAME_BYTES], offset: usize, address: &[u8; 6]) {
    let longwords = frame.get_mut(offset..).unwrap_or_default().as_chunks_mut::<4>().0;
    for (longword, part) in longwords.iter_mut().zip(address.as_chunks::<2>().0) {
        [longword[0], longword[1]] = *part;
    }
}

/// A bit of the table: 16 of them in each longword.
fn enter_hash(frame: &mut [u8; SETUP_FRAME_BYTES], address: &[u8; 6]) {
    let hash = crc32(address) as usize % SETUP_HASH_BITS;
    if let Some(byte) = frame.get_mut(hash / 16 * 4 + hash % 16 / 8) {
        *byte |= 1 << (hash % 8);
    }
}

#[cfg(test)]
mod tests {
    use hv_abi::tulip::setup::SETUP_HASH_BROADCAST;

    use super::*;

    const MAC: [u8; 6] = [2, 1, 2, 3, 4, 5];

    fn address(frame: &[u8], offset: usize) -> [u8; 6] {
        [0, 1, 4, 5, 8, 9].map(|at| frame[offset + at])
    }

    #[test]
    fn up_to_sixteen_addresses_are_compared_whole() {
        let groups: Vec<_> = (0..14).map(|last| [1, 0, 0x5E, 0, 0, last]).collect();
        let setup = Filter { addresses: groups.clone(), ..Filter::default() }.setup(MAC);
        assert_eq!(setup.kind, FilterType::PERFECT);
        let entered: Vec<_> = (0..16).map(|place| address(&setup.frame, place * 12)).collect();
        assert_eq!(entered[..2], [MAC, BROADCAST]);
        assert_eq!(entered[2..], groups);
        assert!(setup.frame.chunks(4).all(|longword| longword[2..] == [0, 0]));
        let alone = Filter::default().setup(MAC);
        assert_eq!(address(&alone.frame, 180), MAC, "what is unused repeats an address");
    }

    /// Broadcast has place 255 (Linux, `build_setup_frame_hash`), 01:00:5E:00:00:01 has 510 and 33:33:00:00:00:01 has 415 by another program's CRC-32 (Python,
    /// `~zlib.crc32(address) & 0x1FF`).
    #[test]
    fn more_groups_go_into_the_table_of_hashes() {
        let mut groups: Vec<_> = (0..14).map(|_| [1, 0, 0x5E, 0, 0, 1]).collect();
        groups.push([0x33, 0x33, 0, 0, 0, 1]);
        let setup = Filter { addresses: groups, ..Filter::default() }.setup(MAC);
        assert_eq!(setup.kind, FilterType::HASH);
        let bit = |place: usize| setup.frame[place / 16 * 4 + place % 16 / 8] >> (place % 8) & 1;
        let places: Vec<_> = (0..512).filter(|place| bit(*place) == 1).collect();
        assert_eq!(places, [SETUP_HASH_BROADCAST, 415, 510]);
        assert_eq!(address(&setup.frame, SETUP_HASH_ADDRESS_OFFSET), MAC);
    }

    #[test]
    fn many_stations_are_found_by_hashes_only_the_own_one_too() {
        let stations: Vec<_> = (0..20).map(|last| [2, 0, 0, 0, 0, last]).collect();
        let filter = Filter { addresses: stations, ..Filter::default() };
        let setup = filter.setup(MAC);
        assert_eq!(setup.kind, FilterType::HASH_ONLY);
        let hash = crc32(&MAC) as usize % 512;
        assert_ne!(setup.frame[hash / 16 * 4 + hash % 16 / 8] & 1 << (hash % 8), 0);
        assert!(filter.wants(&MAC, &MAC) && filter.wants(&MAC, &[2, 0, 0, 0, 0, 19]));
        assert!(!filter.wants(&MAC, &[2, 0, 0, 0, 0, 20]) && filter.wants(&MAC, &BROADCAST));
    }
}
