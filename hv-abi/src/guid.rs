//! GUIDs, by which VMBus names interfaces and instances of devices.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A GUID in its binary form: the first three groups little-endian, the rest as written (RFC 9562, appendix A, on
/// Microsoft's byte order).
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All zeros.
    pub const ZERO: Self = Self([0; 16]);

    /// The GUID that is written `aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee`, with the last two groups as one number.
    pub const fn new(a: u32, b: u16, c: u16, rest: u64) -> Self {
        let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest.to_be_bytes());
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = self.0;
        let (a, b) = (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]));
        let rest = u64::from_be_bytes(rest);
        let (d, e) = (rest >> 48, rest & 0xFFFF_FFFF_FFFF);
        write!(f, "{a:08x}-{b:04x}-{:04x}-{d:04x}-{e:012x}", u16::from_le_bytes([c0, c1]))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn bytes_and_text_are_those_of_linux() {
        // Linux, `include/linux/hyperv.h`, `HV_NIC_GUID`.
        let guid = Guid::new(0xf861_5163, 0xdf3e, 0x46c5, 0x913f_f2d2_f965_ed0e);
        assert_eq!(
            guid.0,
            [
                0x63, 0x51, 0x61, 0xf8, 0x3e, 0xdf, 0xc5, 0x46, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65,
                0xed, 0x0e
            ]
        );
        assert_eq!(guid.to_string(), "f8615163-df3e-46c5-913f-f2d2f965ed0e");
    }
}
