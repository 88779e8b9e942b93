//! Disks by PIO, and everything that is not data. Figures are those of ATA-6 and ATA-3.

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{control, error, reg, status};

use super::*;
use crate::storage::disk::{ByteRange, DiskError};
use crate::storage::faulty::{Fault, FaultyDisk, Kind, Trouble};

fn words(data: &[u8]) -> Vec<u16> {
    data.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn text(words: &[u16]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    String::from_utf8(bytes).unwrap()
}

fn identify(rig: &Rig) -> Vec<u16> {
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    assert_eq!(rig.status(), READY | status::DRQ);
    words(&rig.read_data(512))
}

#[test]
fn a_disk_has_its_signature_after_a_reset() {
    let rig = Rig::disk();
    assert_eq!(rig.result(), [1, 1, 0, 0]);
    rig.lba28(AtaCommand::READ_SECTORS, 5, 2);
    rig.reset();
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY, 1));
    assert_eq!(rig.result(), [1, 1, 0, 0]);
    assert!(!rig.interrupt(), "a reset does not interrupt");
}

#[test]
fn identify_says_what_the_standard_wants() {
    let rig = Rig::disk();
    let id = identify(&rig);
    assert_eq!(rig.status(), READY);
    assert_eq!(id[0], 0x0040);
    assert_eq!((id[1], id[3], id[6]), (4, 16, 63));
    assert_eq!(text(&id[10..20]), "0123456789abcdef    ");
    assert_eq!(text(&id[27..47]), "Enlighten Virtual Disk                  ");
    assert_eq!((id[47], id[59]), (0x8010, 0x0110));
    assert_eq!(id[49] & 0x0B00, 0x0B00, "IORDY, LBA, DMA");
    assert_eq!((id[53] & 7, id[54], id[55], id[56]), (7, 4, 16, 63));
    assert_eq!(u32::from(id[57]) | u32::from(id[58]) << 16, 4032);
    assert_eq!(u32::from(id[60]) | u32::from(id[61]) << 16, 4096);
    assert_eq!((id[63], id[64]), (0x0007, 3));
    assert_ne!(id[80] & 1 << 6, 0, "ATA-6");
    assert_eq!((id[83] & 0xC000, id[83] & 0x3400), (0x4000, 0x3400));
    assert_eq!(id[88], 0x043F, "Ultra DMA 2 of 0 to 5");
    assert_eq!(id[93] & 0xC001, 0x4001);
    assert_eq!(id[100..104], [4096, 0, 0, 0]);
    let sum = id.iter().flat_map(|word| word.to_le_bytes()).fold(0_u8, u8::wrapping_add);
    assert_eq!((id[255] as u8, sum), (0xA5, 0));
}

#[test]
fn a_disk_that_can_discard_is_of_the_version_that_has_trim() {
    let content = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let read_only = Arc::new(MemoryDisk::read_only(vec![0; SECTORS as usize * 512]));
    for (rig, trim, version) in [(Rig::disk(), 1, 9), (Rig::over(&content, read_only), 0, 6)] {
        let id = identify(&rig);
        // Linux 6.1 looks at word 169 from version 7 on only (`include/linux/ata.h`, `ata_id_has_trim`).
        assert_eq!((id[169] & 1, 15 - id[80].leading_zeros()), (trim, version));
    }
}

#[test]
fn reading_interrupts_once_for_each_sector() {
    let rig = Rig::disk();
    rig.lba28(AtaCommand::READ_SECTORS, 7, 3);
    let mut data = Vec::new();
    for _ in 0..3 {
        assert!(rig.interrupt());
        assert_eq!(rig.alternate(), READY | status::DRQ);
        assert!(rig.interrupt(), "the alternate status acknowledges nothing");
        assert_eq!(rig.status(), READY | status::DRQ);
        assert!(!rig.interrupt());
        data.extend(rig.read_data(512));
    }
    assert!(!rig.interrupt(), "the last block is followed by none");
    assert_eq!((rig.status(), data), (READY, content(SECTORS, 512)[7 * 512..10 * 512].to_vec()));
    assert_eq!(rig.result(), [0, 9, 0, 0], "the last sector");
    assert_eq!(rig.bus.raised(IRQ), 3);
}

#[test]
fn writing_begins_without_an_interrupt_and_ends_with_one() {
    let rig = Rig::disk();
    rig.lba48(AtaCommand::WRITE_SECTORS_EXT, 100, 2);
    assert!(!rig.interrupt());
    assert_eq!(rig.status(), READY | status::DRQ);
    rig.write_data(&[0xAA; 512]);
    assert!(rig.interrupt());
    assert_eq!(rig.status(), READY | status::DRQ);
    rig.write_data(&[0xBB; 512]);
    assert!(rig.interrupt());
    assert_eq!(rig.status(), READY);
    let disk = rig.disk.content();
    assert_eq!(disk[100 * 512..101 * 512], [0xAA; 512]);
    assert_eq!(disk[101 * 512..102 * 512], [0xBB; 512]);
    assert_eq!(disk[102 * 512], 102);
}

#[test]
fn multiple_sectors_share_an_interrupt() {
    let rig = Rig::disk();
    rig.issue(AtaCommand::SET_MULTIPLE_MODE, [0, 8, 0, 0, 0, 0xA0]);
    assert_eq!(rig.status(), READY);
    let before = rig.bus.raised(IRQ);
    rig.lba28(AtaCommand::READ_MULTIPLE, 0, 20);
    let mut data = Vec::new();
    for sectors in [8, 8, 4] {
        assert_eq!(rig.status(), READY | status::DRQ);
        data.extend(rig.read_data(sectors * 512));
    }
    assert_eq!((rig.status(), rig.bus.raised(IRQ) - before), (READY, 3));
    assert_eq!(data, content(20, 512));
    rig.lba48(AtaCommand::WRITE_MULTIPLE_EXT, 50, 9);
    rig.write_data(&[1; 8 * 512]);
    assert_eq!(rig.status(), READY | status::DRQ);
    rig.write_data(&[1; 512]);
    assert_eq!(rig.status(), READY);
    assert_eq!(rig.disk.content()[50 * 512..59 * 512], [1; 9 * 512]);
}

#[test]
fn multiple_mode_takes_powers_of_two_and_can_be_off() {
    let rig = Rig::disk();
    for (count, good) in [(16, true), (3, false), (32, false), (0, true)] {
        rig.issue(AtaCommand::SET_MULTIPLE_MODE, [0, count, 0, 0, 0, 0xA0]);
        assert_eq!(rig.status() & status::ERR == 0, good, "{count}");
    }
    rig.lba28(AtaCommand::READ_MULTIPLE, 0, 1);
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::ABRT));
}

#[test]
fn the_last_byte_written_before_is_read_with_hob() {
    let rig = Rig::disk();
    for value in [0x12, 0x34] {
        rig.put(reg::SECTOR_COUNT, value);
        rig.put(reg::LBA_LOW, value + 1);
    }
    rig.control(control::HOB);
    assert_eq!((rig.get(reg::SECTOR_COUNT), rig.get(reg::LBA_LOW)), (0x12, 0x13));
    rig.put(reg::LBA_MID, 0);
    assert_eq!(
        (rig.get(reg::SECTOR_COUNT), rig.get(reg::LBA_LOW)),
        (0x34, 0x35),
        "a write ends it"
    );
}

#[test]
fn cylinder_head_and_sector_are_what_the_translation_says() {
    let rig = Rig::disk();
    // Cylinder 1, head 2, sector 3: (1 × 16 + 2) × 63 + 2.
    rig.issue(AtaCommand::READ_SECTORS, [0, 1, 3, 1, 0, 0xA2]);
    assert_eq!(rig.read_data(512)[..8], 1136_u64.to_le_bytes());
    rig.issue(AtaCommand::INITIALIZE_DEVICE_PARAMETERS, [0, 32, 0, 0, 0, 0xA7]);
    assert_eq!(rig.status(), READY);
    // (1 × 8 + 2) × 32 + 2.
    rig.issue(AtaCommand::READ_SECTORS, [0, 1, 3, 1, 0, 0xA2]);
    assert_eq!(rig.read_data(512)[..8], 322_u64.to_le_bytes());
    assert_eq!(identify(&rig)[54..57], [16, 8, 32]);
    for registers in [[0, 1, 0, 0, 0, 0xA0], [0, 1, 33, 0, 0, 0xA0], [0, 1, 1, 0, 0, 0xA8]] {
        rig.issue(AtaCommand::READ_SECTORS, registers);
        assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::IDNF));
    }
}

#[test]
fn sectors_behind_the_end_are_not_found() {
    let rig = Rig::disk();
    for (lba, count) in [(4095, 2), (4096, 1), (0x0FFF_FFFF, 0)] {
        rig.lba28(AtaCommand::READ_SECTORS, lba, count);
        assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::IDNF));
    }
    rig.lba48(AtaCommand::WRITE_SECTORS_EXT, 0xFFFF_FFFF_FFFF, 0);
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::IDNF));
    rig.lba28(AtaCommand::READ_VERIFY_SECTORS, 4090, 6);
    assert_eq!(rig.status(), READY);
}

#[test]
fn a_bad_sector_is_named_and_those_before_it_are_delivered() {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    let range = ByteRange::new(21 * 512, 512);
    let trouble = Trouble::Fails(DiskError::Os(5));
    faulty.add(Fault { kind: Kind::Read, range, times: u32::MAX, trouble });
    let rig = Rig::over(&disk, faulty);
    rig.lba28(AtaCommand::READ_SECTORS, 18, 100);
    for sector in 18_u64..21 {
        assert_eq!(rig.status(), READY | status::DRQ);
        assert_eq!(rig.read_data(512)[..8], sector.to_le_bytes());
    }
    assert!(rig.interrupt());
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::UNC));
    assert_eq!(rig.get(reg::LBA_LOW), 21);
    rig.lba48(AtaCommand::READ_VERIFY_SECTORS_EXT, 0, 300);
    assert_eq!((rig.status(), rig.get(reg::LBA_LOW)), (READY | status::ERR, 21));
}

#[test]
fn a_write_that_fails_is_a_fault_at_its_sector() {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    let range = ByteRange::new(9 * 512, 512);
    let trouble = Trouble::Fails(DiskError::NoSpace);
    faulty.add(Fault { kind: Kind::Write, range, times: u32::MAX, trouble });
    let rig = Rig::over(&disk, faulty.clone());
    rig.lba28(AtaCommand::WRITE_MULTIPLE, 0, 16);
    rig.write_data(&[7; 16 * 512]);
    assert_eq!((rig.status(), rig.get(reg::LBA_LOW)), (READY | status::ERR | status::DF, 9));
    assert_eq!(disk.content()[..9 * 512], [7; 9 * 512]);
    faulty.always(Kind::Flush, Trouble::Fails(DiskError::Os(5)));
    rig.command(AtaCommand::FLUSH_CACHE_EXT);
    assert_ne!(rig.status() & status::ERR, 0);
}

#[test]
fn a_write_is_safe_where_the_cache_is_off() {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    let rig = Rig::over(&disk, faulty.clone());
    rig.issue(AtaCommand::SET_FEATURES, [0x82, 0, 0, 0, 0, 0xA0]);
    assert_eq!(rig.status(), READY);
    assert_eq!(identify(&rig)[85] & 0x20, 0);
    faulty.always(Kind::Flush, Trouble::Fails(DiskError::Os(5)));
    rig.lba28(AtaCommand::WRITE_SECTORS, 0, 1);
    rig.write_data(&[7; 512]);
    assert_ne!(rig.status() & status::ERR, 0, "its flush fails");
    rig.issue(AtaCommand::SET_FEATURES, [0x02, 0, 0, 0, 0, 0xA0]);
    rig.lba28(AtaCommand::WRITE_SECTORS, 0, 1);
    rig.write_data(&[7; 512]);
    assert_eq!(rig.status(), READY, "no flush");
    rig.lba48(AtaCommand::WRITE_MULTIPLE_FUA_EXT, 0, 1);
    rig.write_data(&[7; 512]);
    assert_ne!(rig.status() & status::ERR, 0, "its flush fails");
}

#[test]
fn a_read_only_disk_refuses_writes_before_data() {
    let disk = Arc::new(MemoryDisk::read_only(content(SECTORS, 512)));
    let rig = Rig::over(&disk, disk.clone());
    for command in [AtaCommand::WRITE_SECTORS, AtaCommand::WRITE_DMA, AtaCommand::WRITE_MULTIPLE] {
        rig.lba28(command, 0, 1);
        assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::ABRT));
    }
}

#[test]
fn transfer_modes_are_told_back() {
    let rig = Rig::disk();
    for (mode, words) in
        [(0x22, [0x0407, 0x003F]), (0x45, [0x0007, 0x203F]), (0x0C, [0x0007, 0x203F])]
    {
        rig.issue(AtaCommand::SET_FEATURES, [3, mode, 0, 0, 0, 0xA0]);
        assert_eq!(rig.status(), READY);
        let id = identify(&rig);
        assert_eq!([id[63], id[88]], words, "{mode:#x}");
    }
    for mode in [0x02, 0x0D, 0x23, 0x46, 0x80] {
        rig.issue(AtaCommand::SET_FEATURES, [3, mode, 0, 0, 0, 0xA0]);
        assert_eq!(rig.status(), READY | status::ERR, "{mode:#x}");
    }
}

#[test]
fn settings_stay_through_a_reset_unless_told_otherwise() {
    let rig = Rig::disk();
    let multiple = |rig: &Rig| identify(rig)[59];
    rig.issue(AtaCommand::SET_MULTIPLE_MODE, [0, 4, 0, 0, 0, 0xA0]);
    rig.reset();
    assert_eq!(multiple(&rig), 0x0104);
    rig.issue(AtaCommand::SET_FEATURES, [0xCC, 0, 0, 0, 0, 0xA0]);
    rig.reset();
    assert_eq!(multiple(&rig), 0x0110);
}

#[test]
fn an_unknown_command_is_aborted_with_an_interrupt() {
    let rig = Rig::disk();
    for command in [0x00, 0x5A, 0xA0, 0xA1, 0xF1, 0xFF, 0x08] {
        rig.put(reg::COMMAND, command);
        assert!(rig.interrupt());
        assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::ABRT));
    }
}

#[test]
fn without_nien_an_interrupt_waits_until_it_may_be_heard() {
    let rig = Rig::disk();
    rig.control(control::NIEN);
    rig.command(AtaCommand::FLUSH_CACHE);
    assert!(!rig.interrupt());
    rig.control(0);
    assert!(rig.interrupt());
    assert_eq!(rig.status(), READY);
    assert!(!rig.interrupt());
}

#[test]
fn the_next_command_makes_a_new_edge_though_nobody_acknowledged_the_last() {
    let rig = Rig::disk();
    for edges in 1..4 {
        rig.command(AtaCommand::FLUSH_CACHE);
        assert_eq!(rig.bus.raised(IRQ), edges);
    }
}

#[test]
fn an_absent_slave_is_never_ready_and_takes_no_commands() {
    let rig = Rig::disk();
    rig.put(reg::DEVICE, 0xB0);
    assert_eq!((rig.status(), rig.alternate()), (0, 0));
    // What Linux looks for a drive by (`ata_devchk`).
    rig.put(reg::SECTOR_COUNT, 0x55);
    rig.put(reg::LBA_LOW, 0xAA);
    assert_eq!(rig.result(), [0; 4]);
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    assert_eq!((rig.status(), rig.interrupt()), (0, false));
    rig.put(reg::DEVICE, 0xA0);
    assert_eq!(rig.status(), READY);
}

#[test]
fn an_empty_channel_floats() {
    let rig = Rig::disk();
    for port in [0x171, 0x172, 0x177, 0x376] {
        assert_eq!(rig.bus.read_port::<1>(port), [0x7F]);
    }
    rig.bus.write_port(0x172, &[0x55]);
    assert_eq!(rig.bus.read_port::<1>(0x172), [0x7F]);
}

#[test]
fn two_drives_hear_registers_and_answer_alone() {
    let (one, other) = (MemoryDisk::new(vec![1; 4096]), MemoryDisk::new(vec![2; 8192]));
    let drives = [one, other].map(|disk| Some(IdeDrive::Disk(unit(Arc::new(disk)))));
    let [one, other] = drives;
    let rig = Rig::with([one, other, None, None], Arc::new(MemoryDisk::new(Vec::new())));
    for (device, byte, sectors) in [(0xE0, 1, 8), (0xF0, 2, 16)] {
        rig.issue(AtaCommand::READ_SECTORS, [0, 1, 0, 0, 0, device]);
        assert_eq!((rig.status(), rig.read_data(512)), (READY | status::DRQ, vec![byte; 512]));
        assert_eq!(identify(&rig)[60], sectors);
    }
    // The interrupt of a drive is heard while that drive is selected.
    rig.command(AtaCommand::FLUSH_CACHE);
    assert!(rig.interrupt());
    rig.put(reg::DEVICE, 0xE0);
    assert!(!rig.interrupt());
    rig.put(reg::DEVICE, 0xF0);
    assert!(rig.interrupt());
    rig.command(AtaCommand::EXECUTE_DEVICE_DIAGNOSTIC);
    assert_eq!((rig.get(reg::DEVICE) & 0x10, rig.get(reg::ERROR)), (0, 1));
    assert_eq!((rig.status(), rig.result()), (READY, [1, 1, 0, 0]));
}

#[test]
fn power_modes_are_told_and_end_with_the_next_read() {
    let rig = Rig::disk();
    let mode = || {
        rig.command(AtaCommand::CHECK_POWER_MODE);
        assert_eq!(rig.status(), READY);
        rig.get(reg::SECTOR_COUNT)
    };
    assert_eq!(mode(), 0xFF);
    rig.command(AtaCommand::STANDBY_IMMEDIATE);
    assert_eq!(mode(), 0x00);
    rig.lba28(AtaCommand::READ_SECTORS, 0, 1);
    rig.read_data(512);
    assert_eq!(mode(), 0xFF);
    rig.command(AtaCommand::SLEEP);
    rig.status();
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    assert_eq!(rig.status(), READY, "asleep, it hears nothing");
    rig.reset();
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    assert_eq!(rig.status(), READY | status::DRQ);
}

#[test]
fn smart_says_that_all_is_well() {
    let rig = Rig::disk();
    let smart = |feature, low, count| {
        rig.issue(AtaCommand::SMART, [feature, count, low, 0x4F, 0xC2, 0xA0]);
        rig.status()
    };
    assert_eq!(smart(0xDA, 0, 0), READY);
    assert_eq!(rig.result()[2..], [0x4F, 0xC2]);
    for (feature, low) in [(0xD0, 0), (0xD1, 0), (0xD5, 0), (0xD5, 1), (0xD5, 6)] {
        assert_eq!(smart(feature, low, 1), READY | status::DRQ);
        let data = rig.read_data(512);
        let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert!(sum == 0 || (feature, low) == (0xD5, 0), "{feature:#x}");
    }
    assert_eq!(smart(0xD5, 2, 1), READY | status::ERR);
    assert_eq!(smart(0xD9, 0, 0), READY);
    assert_eq!(smart(0xDA, 0, 0), READY | status::ERR, "switched off");
    assert_eq!(smart(0xD8, 0, 0), READY);
    rig.issue(AtaCommand::SMART, [0xDA, 0, 0, 0, 0, 0xA0]);
    assert_eq!(rig.status(), READY | status::ERR, "without its signature");
}

#[test]
fn what_is_written_to_the_buffer_is_read_from_it() {
    let rig = Rig::disk();
    rig.command(AtaCommand::WRITE_BUFFER);
    rig.write_data(&[0x5A; 512]);
    assert_eq!(rig.status(), READY);
    rig.command(AtaCommand::READ_BUFFER);
    assert_eq!((rig.status(), rig.read_data(512)), (READY | status::DRQ, vec![0x5A; 512]));
}

#[test]
fn a_string_instruction_moves_a_sector_by_one_call() {
    let rig = Rig::disk();
    rig.lba28(AtaCommand::READ_SECTORS, 3, 2);
    let mut data = vec![0; 1024];
    assert!(rig.bus.bus.read_port_repeated(COMMAND, 2, &mut data));
    assert_eq!((rig.status(), data), (READY, content(5, 512)[3 * 512..].to_vec()));
    rig.lba28(AtaCommand::WRITE_SECTORS, 3, 1);
    assert!(rig.bus.bus.write_port_repeated(COMMAND, 4, &[0x77; 512]));
    assert_eq!(rig.status(), READY);
    assert_eq!(rig.disk.content()[3 * 512..4 * 512], [0x77; 512]);
    // Of other registers each element is an access, and of those behind the last there are none.
    let mut status = [0; 6];
    assert!(rig.bus.bus.read_port_repeated(COMMAND + 7, 2, &mut status));
    assert_eq!(status, [READY, 0xFF, READY, 0xFF, READY, 0xFF]);
}
