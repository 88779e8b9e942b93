//! Behaviour as a guest sees it.

use proptest::prelude::*;

use super::*;
use crate::emulated::pci::bridges::Bridge;

fn ports() -> ConfigPorts {
    let mut bus = PciBus::default();
    bus.add(0, 0, Box::new(Bridge::host())).unwrap();
    bus.add(1, 0, Box::new(Bridge::isa())).unwrap();
    ConfigPorts::new(Arc::new(bus))
}

fn read<const N: usize>(ports: &mut ConfigPorts, offset: u16) -> [u8; N] {
    let mut data = [0xFF; N];
    ports.read(offset, &mut data);
    data
}

fn select(ports: &mut ConfigPorts, address: u32) {
    assert_eq!(ports.write(0, &address.to_le_bytes()), None);
}

#[test]
fn a_register_is_read_in_any_width_within_it() {
    let mut ports = ports();
    select(&mut ports, 0x8000_0000);
    assert_eq!(read(&mut ports, 4), [0x86, 0x80, 0x37, 0x12]);
    assert_eq!(read(&mut ports, 6), [0x37, 0x12]);
    assert_eq!(read(&mut ports, 5), [0x80, 0x37]);
    assert_eq!(read(&mut ports, 7), [0x12]);
    assert_eq!(read(&mut ports, 6), [0x37, 0x12, 0xFF, 0xFF], "two bytes are beyond the register");
}

#[test]
fn the_address_takes_32_bits_and_nothing_else() {
    let mut ports = ports();
    select(&mut ports, 0xFFFF_FFFF);
    assert_eq!(read(&mut ports, 0), 0x80FF_FFFC_u32.to_le_bytes(), "reserved bits are zeros");
    // What Linux's `pci_check_type1` does.
    assert_eq!(ports.write(3, &[1]), None);
    assert_eq!(ports.write(0, &[1, 2]), None);
    assert_eq!(ports.write(2, &[1, 2]), None);
    assert_eq!(read(&mut ports, 0), 0x80FF_FFFC_u32.to_le_bytes());
    assert_eq!((read(&mut ports, 0), read(&mut ports, 2)), ([0xFF], [0xFF, 0xFF]));
}

#[test]
fn nobody_answers_where_nobody_is_or_the_enable_bit_is_clear() {
    let mut ports = ports();
    for address in [0, 0x8000_1000, 0x8001_0000, 0x8000_0100] {
        select(&mut ports, address);
        assert_eq!(read(&mut ports, 4), [0xFF; 4], "{address:#x}");
        assert_eq!(ports.write(4, &[0; 4]), None);
    }
}

#[test]
fn the_reset_control_register_is_a_byte_in_the_midst() {
    let mut ports = ports();
    select(&mut ports, 0x8000_0800);
    assert_eq!(ports.write(1, &[2]), None);
    assert_eq!(read(&mut ports, 1), [2]);
    assert_eq!(ports.write(1, &[6, 0]), None, "a word is not for it");
    assert!(matches!(ports.write(1, &[6]), Some(Request::End(_))));
    assert_eq!(read(&mut ports, 4), [0x86, 0x80, 0x10, 0x71], "the address is as it was");
}

proptest! {
    #[test]
    fn any_accesses_leave_the_bridges_what_they_are(
        accesses in prop::collection::vec((0..8_u16, prop::collection::vec(any::<u8>(), 1..9)), 0..60),
    ) {
        let mut ports = ports();
        for (offset, data) in &accesses {
            ports.write(*offset, data);
            ports.read(*offset, &mut data.clone());
        }
        select(&mut ports, 0x8000_0000);
        prop_assert_eq!(read(&mut ports, 4), [0x86, 0x80, 0x37, 0x12]);
    }
}
