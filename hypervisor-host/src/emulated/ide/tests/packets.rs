//! The CD-ROM. Figures are those of ATA-6, MMC-3 and SPC.

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{error, reg, status};

use super::*;

const TEST_UNIT_READY: &[u8] = &[0];

/// A CD-ROM whose first unit attention is over.
fn cd() -> Rig {
    let rig = Rig::cd();
    assert_eq!(rig.sense(TEST_UNIT_READY), (6, 0x29, 0));
    rig.good(TEST_UNIT_READY);
    rig
}

fn read_10(lba: u32, count: u16) -> Vec<u8> {
    [&[0x28, 0][..], &lba.to_be_bytes(), &[0], &count.to_be_bytes()].concat()
}

#[test]
fn a_packet_device_has_its_signature_and_is_not_ready() {
    let rig = Rig::cd();
    assert_eq!((rig.status(), rig.result()), (0, [1, 1, 0x14, 0xEB]));
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    assert_eq!((rig.status() & 0x81, rig.get(reg::ERROR)), (status::ERR, error::ABRT));
    assert_eq!(rig.result(), [1, 1, 0x14, 0xEB]);
    rig.reset();
    assert_eq!((rig.status(), rig.result()), (0, [1, 1, 0x14, 0xEB]));
}

#[test]
fn identify_packet_device_says_what_it_is() {
    let rig = Rig::cd();
    rig.command(AtaCommand::IDENTIFY_PACKET_DEVICE);
    assert!(rig.interrupt());
    assert_eq!(rig.status(), status::DRDY | status::DRQ);
    let data = rig.read_data(512);
    assert_eq!(u16::from_le_bytes([data[0], data[1]]), 0x85C0);
    assert_eq!(rig.status(), status::DRDY);
}

#[test]
fn the_first_command_learns_of_power_on() {
    let rig = Rig::cd();
    assert_eq!(rig.good(&[0x12, 0, 0, 0, 36]).len(), 36, "INQUIRY is done all the same");
    let sense = rig.good(&[0x03, 0, 0, 0, 18]);
    assert_eq!((sense[0], sense[2], sense[12]), (0x70, 6, 0x29));
    rig.good(TEST_UNIT_READY);
}

#[test]
fn inquiry_and_capacity_are_a_cd_roms() {
    let rig = cd();
    let inquiry = rig.good(&[0x12, 0, 0, 0, 96]);
    assert_eq!((inquiry[0], inquiry[1], inquiry[3] & 0x0F, inquiry[4]), (5, 0x80, 2, 31));
    assert_eq!(rig.good(&[0x12, 0, 0, 0, 5]).len(), 5);
    assert_eq!(rig.good(&[0x25]), [0, 0, 0, 63, 0, 0, 8, 0]);
    assert_eq!(rig.sense(&[0x12, 1, 0, 0, 96]), (5, 0x24, 0));
}

#[test]
fn sectors_come_in_blocks_of_the_guests_choice() {
    let rig = cd();
    let whole = content(64, 2048);
    for limit in [2048, 0xFFFE, 512, 4096, 1000, 2047] {
        let (data, _) = rig.packet(&read_10(3, 5), limit);
        assert_eq!(data, whole[3 * 2048..8 * 2048], "{limit}");
    }
    let read_12 = [0xA8, 0, 0, 0, 0, 62, 0, 0, 0, 2];
    assert_eq!(rig.good(&read_12), whole[62 * 2048..]);
    assert!(rig.good(&read_10(5, 0)).is_empty());
}

#[test]
fn sectors_behind_the_end_are_out_of_range() {
    let rig = cd();
    for (lba, count) in [(63, 2), (64, 1), (u32::MAX, 1)] {
        assert_eq!(rig.sense(&read_10(lba, count)), (5, 0x21, 0));
    }
}

#[test]
fn without_a_limit_data_has_no_way() {
    let rig = cd();
    rig.issue(AtaCommand::PACKET, [0, 0, 0, 0, 0, 0xA0]);
    rig.write_data(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((rig.status() & 0x89, rig.get(reg::ERROR)), (status::ERR, error::ABRT));
}

#[test]
fn data_goes_by_dma_if_the_guest_wants() {
    let rig = cd();
    let dma = |packet: &[u8], regions: &[(u32, u16)]| {
        rig.table(regions);
        rig.issue(AtaCommand::PACKET, [1, 0, 0, 0, 0, 0xA0]);
        let mut padded = packet.to_vec();
        padded.resize(12, 0);
        rig.write_data(&padded);
        rig.start(0x09);
        assert!(rig.interrupt());
        assert_eq!(rig.get(reg::SECTOR_COUNT), 3);
        rig.status()
    };
    assert_eq!(dma(&read_10(10, 3), &[(DATA, 2048), (DATA + 0x1000, 4096)]), status::DRDY);
    let whole = content(64, 2048);
    assert_eq!(rig.memory(DATA, 2048), whole[10 * 2048..11 * 2048]);
    assert_eq!(rig.memory(DATA + 0x1000, 4096), whole[11 * 2048..13 * 2048]);
    assert_eq!(dma(&[0x25], &[(DATA, 8)]), status::DRDY);
    assert_eq!(rig.memory(DATA, 8), [0, 0, 0, 63, 0, 0, 8, 0]);
    assert_eq!(rig.master_status() & 7, 4);
}

#[test]
fn the_contents_are_one_track_of_data() {
    let rig = cd();
    let toc = rig.good(&[0x43, 0, 0, 0, 0, 0, 0, 0, 100]);
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 0, 64]);
    // Sector 0 is at 00:02:00, sector 64 at 00:02:64.
    let msf = rig.good(&[0x43, 2, 0, 0, 0, 0, 0, 0, 100]);
    assert_eq!((&msf[8..12], &msf[16..20]), (&[0, 0, 2, 0][..], &[0, 0, 2, 64][..]));
    assert_eq!(rig.good(&[0x43, 0, 1, 0, 0, 0, 0, 0, 100])[..4], [0, 10, 1, 1]);
    assert_eq!(rig.good(&[0x43, 0, 2, 0, 0, 0, 0, 0, 100])[..2], [0, 46]);
    assert_eq!(rig.sense(&[0x43, 0, 0, 0, 0, 0, 9, 0, 100]), (5, 0x24, 0));
}

#[test]
fn pages_profiles_and_events_have_their_lengths() {
    let rig = cd();
    let mode = rig.good(&[0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 100]);
    assert_eq!((mode.len(), mode[1], mode[8], mode[9]), (28, 26, 0x2A, 18));
    assert_eq!(rig.good(&[0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 100]).len(), 36);
    assert_eq!(rig.sense(&[0x5A, 0, 0x11, 0, 0, 0, 0, 0, 100]), (5, 0x24, 0));
    let features = rig.good(&[0x46, 0, 0, 0, 0, 0, 0, 0, 255]);
    assert_eq!(features[..8], [0, 0, 0, features.len() as u8 - 4, 0, 0, 0, 8]);
    let one = rig.good(&[0x46, 2, 0, 1, 0, 0, 0, 0, 255]);
    assert_eq!(one[8..], [0, 1, 3, 4, 0, 0, 0, 2]);
    assert_eq!(rig.good(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]), [0, 6, 4, 0x10, 0, 2, 0, 0]);
    assert_eq!(rig.sense(&[0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8]), (5, 0x24, 0));
    assert_eq!(rig.good(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34])[..3], [0, 32, 0x0E]);
}

#[test]
fn a_locked_tray_stays_and_an_open_one_has_no_medium() {
    let rig = cd();
    let (eject, load) = ([0x1B, 0, 0, 0, 2], [0x1B, 0, 0, 0, 3]);
    rig.good(&[0x1E, 0, 0, 0, 1]);
    assert_eq!(rig.sense(&eject), (5, 0x53, 2));
    rig.good(&[0x1E, 0, 0, 0, 0]);
    rig.good(&eject);
    assert_eq!(rig.sense(&read_10(0, 1)), (2, 0x3A, 2));
    assert_eq!(rig.good(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [3, 1]);
    rig.good(&load);
    assert_eq!(rig.sense(TEST_UNIT_READY), (6, 0x28, 0));
    assert_eq!(rig.good(&read_10(0, 1)), content(1, 2048));
}

#[test]
fn an_unknown_packet_is_refused() {
    let rig = cd();
    for op in [0x0A, 0x2A, 0x42, 0x7F, 0xFF] {
        assert_eq!(rig.sense(&[op]), (5, 0x20, 0));
    }
}

#[test]
fn device_reset_is_heard_in_the_middle_of_a_transfer() {
    let rig = cd();
    rig.issue(AtaCommand::PACKET, [0, 0, 0, 0, 8, 0xA0]);
    let mut packet = read_10(0, 2);
    packet.resize(12, 0);
    rig.write_data(&packet);
    rig.read_data(100);
    rig.command(AtaCommand::DEVICE_RESET);
    assert_eq!((rig.status(), rig.result()), (0, [1, 1, 0x14, 0xEB]));
    assert!(!rig.interrupt());
    assert_eq!(rig.good(&read_10(1, 1)), content(2, 2048)[2048..]);
}
