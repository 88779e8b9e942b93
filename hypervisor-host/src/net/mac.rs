//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address of the machine's card of this number, if it is given none: `02:15:5d:` and the number. Microsoft's
    /// range for Hyper-V is `00:15:5d`; the bit that says *locally administered* is set, for nobody assigned it to us.
    pub const fn of_card(index: u16) -> Self {
        let [high, low] = index.to_be_bytes();
        Self([0x02, 0x15, 0x5D, 0, high, low])
    }

    /// The same for one of many machines, which are told apart by a number: `02:15:5d:`, that number, and the card's.
    pub const fn of_machines_card(machine: u16, index: u16) -> Self {
        let [high, low] = index.to_be_bytes();
        let [one, other] = machine.to_be_bytes();
        // For one machine, no two cards have the same: of those behind the 256th another byte differs.
        Self([0x02, 0x15, 0x5D, one ^ high, other, low])
    }

    /// To several cards, or to all.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// To all.
    pub fn is_broadcast(self) -> bool {
        self.0 == [0xFF; 6]
    }

    /// The address a frame is for.
    pub fn destination(frame: &[u8]) -> Option<Self> {
        frame.first_chunk().copied().map(Self)
    }

    /// The address a frame is from.
    pub fn source(frame: &[u8]) -> Option<Self> {
        frame.get(6..)?.first_chunk().copied().map(Self)
    }

    /// Whether a card may have it.
    pub fn is_a_cards(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ();

    /// Six pairs of hexadecimal digits with `:` or `-` between them.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or(())?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        if pairs.next().is_some() { Err(()) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let address: MacAddress = "02:15:5D-00:01:ff".parse().unwrap();
        assert_eq!(address.to_string(), "02:15:5d:00:01:ff");
        assert_eq!(MacAddress::of_card(0x1FF), address);
        for text in
            ["", "02:15:5d:00:01", "02:15:5d:00:01:ff:00", "0:1:2:3:4:5", "02:15:5d:00:01:+f"]
        {
            assert_eq!(text.parse::<MacAddress>(), Err(()), "{text}");
        }
    }

    #[test]
    fn cards_of_machines_and_machines_are_told_apart() {
        let card = MacAddress::of_machines_card;
        assert_eq!(card(0x1234, 1).to_string(), "02:15:5d:12:34:01");
        assert_ne!(card(0x1234, 0), card(0x1235, 0));
        assert_ne!(card(0x1234, 0), card(0x1234, 256));
        assert!(card(0xFFFF, 0xFFFF).is_a_cards());
        assert_eq!(card(0, 7), MacAddress::of_card(7));
    }

    #[test]
    fn a_card_has_an_address_of_its_own() {
        assert!(MacAddress::of_card(0).is_a_cards());
        assert!(!MacAddress([0; 6]).is_a_cards());
        assert!(MacAddress([0xFF; 6]).is_broadcast() && MacAddress([1; 6]).is_multicast());
        let frame = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        assert_eq!(MacAddress::source(&frame), Some(MacAddress([7, 8, 9, 10, 11, 12])));
        assert_eq!(MacAddress::destination(&frame[..5]), None);
        assert_eq!(MacAddress::source(&frame[..11]), None);
    }
}
