//! Packets of the storage protocol, as a guest's driver may send them: the beginning and requests, with memory that is there or not.
//!
//! The first byte chooses version and state. Then packets: a byte with the number of 8-byte units of payload, a byte with the
//! number of pages, the range's bytes and offset (16 bits each), a byte for each page, the payload.

#![no_main]

use hv_abi::storvsp::StorvspVersion;
use hypervisor_host::vsp::storvsp::fuzzing::{Desk, FuzzPacket};
use libfuzzer_sys::fuzz_target;

const MAX_PAGES: usize = 20;

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut rest)) = input.split_first() else { return };
    let newest = StorvspVersion::ALL[usize::from(choice >> 1) % StorvspVersion::ALL.len()];
    let mut desk = Desk::new(newest, choice & 1 != 0);
    while let Some(next) = packet(&mut desk, rest) {
        rest = next;
    }
});

/// Takes a packet; gives what lies behind it.
fn packet<'a>(desk: &mut Desk, input: &'a [u8]) -> Option<&'a [u8]> {
    let [units, pages, a, b, c, d, rest @ ..] = input else { return None };
    let pages = usize::from(*pages) % (MAX_PAGES + 1);
    let (numbers, rest) = rest.split_at_checked(pages)?;
    let (payload, rest) = rest.split_at_checked(usize::from(*units) % 10 * 8)?;
    let pages: Vec<u64> = numbers.iter().map(|&number| number.into()).collect();
    let range =
        (u16::from_le_bytes([*a, *b]).into(), u16::from_le_bytes([*c, *d]).into(), &pages[..]);
    desk.take(&FuzzPacket { payload, range })?;
    Some(rest)
}
