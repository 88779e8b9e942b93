use proptest::prelude::*;

use super::*;

const MAC: MacAddress = MacAddress([2, 0x15, 0x5D, 0, 0, 7]);
const OTHER: MacAddress = MacAddress([2, 0x15, 0x5D, 0, 0, 8]);
const GROUP: MacAddress = MacAddress([1, 0, 0x5E, 0, 0, 1]);
const BROADCAST: MacAddress = MacAddress([0xFF; 6]);

/// As Linux lays addresses out (`tulip_core.c`, `build_setup_frame_perfect`): each half twice, for either byte order.
fn perfect(addresses: &[MacAddress]) -> [u8; SETUP_FRAME_BYTES] {
    let mut frame = [0xFF; SETUP_FRAME_BYTES];
    for (place, address) in frame.chunks_exact_mut(12).zip(addresses) {
        for (longword, half) in place.chunks_exact_mut(4).zip(address.0.chunks_exact(2)) {
            longword.copy_from_slice(&[half[0], half[1], half[0], half[1]]);
        }
    }
    frame
}

/// As Linux lays a table out (`build_setup_frame_hash`).
fn hashed(bits: &[usize], address: MacAddress) -> [u8; SETUP_FRAME_BYTES] {
    let mut table = [0_u8; 64];
    for bit in bits {
        table[bit / 8] |= 1 << (bit % 8);
    }
    let mut frame = [0xFF; SETUP_FRAME_BYTES];
    for (longword, half) in frame.chunks_exact_mut(4).zip(table.chunks_exact(2)) {
        longword.copy_from_slice(&[half[0], half[1], half[0], half[1]]);
    }
    for (longword, half) in frame[156..168].chunks_exact_mut(4).zip(address.0.chunks_exact(2)) {
        longword.copy_from_slice(&[half[0], half[1], half[0], half[1]]);
    }
    frame
}

fn passing(filter: &Filter, mode: Mode) -> [bool; 4] {
    [MAC, OTHER, GROUP, BROADCAST].map(|address| filter.passes(mode, address))
}

#[test]
fn before_any_setup_frame_only_promiscuous_modes_let_frames_pass() {
    let filter = Filter::default();
    assert_eq!(passing(&filter, Mode::empty()), [false; 4]);
    assert_eq!(passing(&filter, Mode::PM), [false, false, true, true]);
    assert_eq!(passing(&filter, Mode::PR), [true; 4]);
}

#[test]
fn a_perfect_filter_passes_what_is_listed() {
    let filter = Filter::new(FilterType::PERFECT, &perfect(&[MAC, GROUP]));
    assert_eq!(passing(&filter, Mode::empty()), [true, false, true, true]);
    let filter = Filter::new(FilterType::PERFECT, &perfect(&[MAC; 16]));
    assert_eq!(passing(&filter, Mode::empty()), [true, false, false, false]);
    assert_eq!(filter.mode(), Mode::empty());
}

#[test]
fn an_inverse_filter_passes_the_rest() {
    let filter = Filter::new(FilterType::INVERSE, &perfect(&[MAC; 16]));
    assert_eq!(passing(&filter, Mode::empty()), [false, true, true, true]);
    assert_eq!(filter.mode(), Mode::IF);
}

/// Hashes of zlib's `crc32`: `01:00:5e:00:00:01` has 0x1FE.
#[test]
fn a_hash_filter_has_one_address_and_many_groups() {
    let filter = Filter::new(FilterType::HASH, &hashed(&[0x1FE], MAC));
    assert_eq!(passing(&filter, Mode::empty()), [true, false, true, false]);
    let filter = Filter::new(FilterType::HASH, &hashed(&[255], MAC));
    assert_eq!(passing(&filter, Mode::empty()), [true, false, false, true]);
    assert_eq!(filter.mode(), Mode::HP);
}

#[test]
fn a_hash_only_filter_hashes_everything() {
    let filter = Filter::new(FilterType::HASH_ONLY, &hashed(&[0x1FE, 255], MAC));
    assert_eq!(passing(&filter, Mode::empty()), [false, false, true, true]);
    assert_eq!(filter.mode(), Mode::HP | Mode::HO);
}

/// CRC-32 bit by bit, as IEEE 802.3 has it.
fn model_hash(address: MacAddress) -> usize {
    let mut crc = u32::MAX;
    for byte in address.0 {
        for bit in 0..8 {
            let feedback = (crc ^ u32::from(byte >> bit)) & 1;
            crc = crc >> 1 ^ if feedback != 0 { 0xEDB8_8320 } else { 0 };
        }
    }
    crc as usize & 0x1FF
}

proptest! {
    #[test]
    fn filters_agree_with_their_description(
        frame in prop::collection::vec(any::<u8>(), SETUP_FRAME_BYTES),
        random in any::<[u8; 6]>(),
        listed in prop::option::of(0..16_usize),
        kind in 0..4_u8,
    ) {
        let frame: [u8; SETUP_FRAME_BYTES] = frame.try_into().unwrap();
        let at = |offset: usize| MacAddress(std::array::from_fn(|i| frame[offset + i / 2 * 4 + i % 2]));
        let address = listed.map_or(MacAddress(random), |index| at(index * 12));
        let list = (0..16).any(|index| at(index * 12) == address);
        let bit = model_hash(address);
        let hash = frame[bit / 16 * 4 + bit % 16 / 8] >> (bit % 8) & 1 != 0;
        let expected = match kind {
            0 => list,
            1 if address.is_multicast() => hash,
            1 => address == at(156),
            2 => !list,
            _ => hash,
        };
        let filter = Filter::new(FilterType(kind), &frame);
        prop_assert_eq!(filter.passes(Mode::empty(), address), expected);
    }
}
