//! CSR9 as Linux's driver uses it (Linux 6.1, `eeprom.c`, `tulip_read_eeprom`; `media.c`, `tulip_mdio_read` and `_write`).

use super::*;

const ENABLE: u32 = 0x4801;
const CLOCK: u32 = 2;
const DATA: u32 = 4;

fn read_rom(desk: &Desk, location: u32, address_bits: u32) -> u32 {
    let command = location | 6 << address_bits;
    let mut value = 0;
    let bit = || u32::from(desk.read(9) & 8 != 0);
    desk.write(9, ENABLE & !1);
    desk.write(9, ENABLE);
    for index in (0..5 + address_bits).rev() {
        let data = if command >> index & 1 != 0 { DATA } else { 0 };
        desk.write(9, ENABLE | data);
        desk.write(9, ENABLE | data | CLOCK);
        value = value << 1 | bit();
    }
    desk.write(9, ENABLE);
    for _ in 0..16 {
        desk.write(9, ENABLE | CLOCK);
        value = value << 1 | bit();
        desk.write(9, ENABLE);
    }
    desk.write(9, ENABLE & !1);
    value
}

fn shift(desk: &Desk, bits: u32, count: u32) {
    for index in (0..count).rev() {
        let data = if bits >> index & 1 != 0 { 0x2_0000 } else { 0 };
        desk.write(9, data);
        desk.write(9, data | 0x1_0000);
    }
}

fn mdio_read(desk: &Desk, phy: u32, register: u32) -> u16 {
    shift(desk, u32::MAX, 32);
    shift(desk, 1, 1);
    shift(desk, 0xF6 << 10 | phy << 5 | register, 16);
    let mut value = 0_u32;
    for _ in 0..19 {
        desk.write(9, 0x4_0000);
        value = value << 1 | u32::from(desk.read(9) & 0x8_0000 != 0);
        desk.write(9, 0x5_0000);
    }
    (value >> 1) as u16
}

fn mdio_write(desk: &Desk, phy: u32, register: u32, value: u32) {
    shift(desk, u32::MAX, 32);
    shift(desk, 0x5002 << 16 | phy << 23 | register << 18 | value, 32);
    for _ in 0..2 {
        desk.write(9, 0x4_0000);
        desk.write(9, 0x5_0000);
    }
}

/// The bytes, with checksums computed by zlib and by QEMU's `tulip_idblock_crc`, not by us.
#[test]
fn linux_reads_the_rom_and_finds_its_size() {
    let desk = Desk::new();
    assert_eq!(read_rom(&desk, 0xFF, 8) & 0x4_0000, 0, "six bits of address");
    let words: Vec<u16> = (0..64).map(|word| read_rom(&desk, word, 6) as u16).collect();
    let mut expected = [0; 128];
    expected[16..47].copy_from_slice(&[
        0xE1, 0, 4, 1, 0x02, 0x15, 0x5D, 0, 0, 7, 0, 0x1E, 0, 0, 0x00, 0x08, 0, 1, 0x8C, 1, 0, 0,
        0, 0x00, 0x78, 0xE0, 1, 0, 0x50, 0, 0x18,
    ]);
    let fixed: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    expected[126..].copy_from_slice(&[0x01, 0x4F]);
    assert_eq!(fixed[..16], expected[..16]);
    assert_eq!(fixed[16..30], expected[16..30]);
    assert_eq!(fixed[30..], expected[30..]);
}

/// `tulip_parse_eeprom`: one leaf, block type 1, medium 11 (MII), what to advertise.
#[test]
fn linux_finds_a_transceiver_on_mii_in_the_media_table() {
    let desk = Desk::new();
    let bytes: Vec<u8> =
        (0..64).flat_map(|word| (read_rom(&desk, word, 6) as u16).to_le_bytes()).collect();
    assert_ne!(bytes[..8], bytes[16..24], "no old layout");
    assert_eq!(bytes[20..26], MAC.0);
    let leaf = &bytes[usize::from(bytes[27])..];
    assert_eq!((leaf[0], leaf[1], leaf[3]), (0, 8, 1));
    let block = &leaf[4..];
    assert_eq!((block[0] & 0x80, block[1]), (0x80, 1));
    let (start, reset) = (usize::from(block[3]), usize::from(block[4 + usize::from(block[3])]));
    assert_eq!(block[2], 0);
    let advertise = 7 + 2 * start + 2 * reset;
    assert_eq!(block[advertise..advertise + 2], [0xE0, 0x01]);
    assert_eq!(usize::from(block[0] & 0x3F) + 1, 13);
}

#[test]
fn a_rom_command_that_is_no_read_has_no_effect() {
    let desk = Desk::new();
    let before = read_rom(&desk, 10, 6);
    // Write enable, then erase and write word 10 (93C46 data sheet, instruction set).
    for command in [0b1_0011_0000, 0b1_1100_1010, 0b1_0100_1010_u32] {
        desk.write(9, ENABLE);
        for bit in (0..25).rev() {
            let data = if command << 16 >> bit & 1 != 0 { DATA } else { 0 };
            desk.write(9, ENABLE | data);
            desk.write(9, ENABLE | data | CLOCK);
        }
        desk.write(9, ENABLE & !1);
    }
    assert_eq!(read_rom(&desk, 10, 6), before);
}

#[test]
fn linux_finds_one_transceiver_with_a_link_at_100_full() {
    let desk = Desk::new();
    let found: Vec<_> = (0..32)
        .filter(|phy| {
            let status = mdio_read(&desk, *phy, 1);
            status & 0x8301 == 0x8001 || status & 0x8000 == 0 && status & 0x7800 != 0
        })
        .collect();
    assert_eq!(found, [1]);
    assert_eq!(mdio_read(&desk, 2, 1), 0xFFFF);
    let registers: Vec<_> = (0..7).map(|register| mdio_read(&desk, 1, register)).collect();
    assert_eq!(registers, [0x3100, 0x782D, 0x2000, 0x5C01, 0x01E1, 0x41E1, 0x0001]);
}

#[test]
fn linux_writes_what_is_advertised_and_restarts_the_negotiation() {
    let desk = Desk::new();
    mdio_write(&desk, 1, 4, 0x0101);
    mdio_write(&desk, 1, 0, 0x1200);
    mdio_write(&desk, 2, 4, 0x0001);
    assert_eq!((mdio_read(&desk, 1, 4), mdio_read(&desk, 1, 0)), (0x0101, 0x1000));
    mdio_write(&desk, 1, 1, 0);
    assert_eq!(mdio_read(&desk, 1, 1), 0x782D);
    mdio_write(&desk, 1, 0, 0x8000);
    assert_eq!((mdio_read(&desk, 1, 4), mdio_read(&desk, 1, 0)), (0x01E1, 0x3100));
}

#[test]
fn a_lost_link_shows_once_even_if_it_is_back() {
    let desk = Desk::new();
    desk.card.set_link(false);
    assert_eq!((mdio_read(&desk, 1, 1), mdio_read(&desk, 1, 5)), (0x7809, 0));
    desk.card.set_link(true);
    desk.card.set_link(false);
    desk.card.set_link(true);
    assert_eq!(mdio_read(&desk, 1, 1), 0x7829);
    assert_eq!(mdio_read(&desk, 1, 1), 0x782D);
}

#[test]
fn noise_on_the_wires_does_not_hang_them() {
    let desk = Desk::new();
    let mut noise = 0x1234_5678_u32;
    for _ in 0..5000 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        desk.write(9, noise >> 8);
        desk.read(9);
    }
    shift(&desk, 0, 20);
    assert_eq!(mdio_read(&desk, 1, 2), 0x2000);
    assert_eq!(read_rom(&desk, 9, 6) as u16, 0x0104);
}
