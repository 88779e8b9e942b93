//! What no guest should do.

use hv_abi::ata::bus_master::status as master;
use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{control, reg, status};

use super::*;

const READ: u8 = 0x09;
const EVENTS: u8 = master::INTERRUPT | master::ERROR | master::ACTIVE;

/// Reads by DMA with what the table says; the bus master must say that it can't.
fn refused(rig: &Rig) {
    rig.lba28(AtaCommand::READ_DMA, 0, 8);
    rig.start(READ);
    assert_eq!(rig.master_status() & EVENTS, master::ERROR);
    assert!(!rig.interrupt());
    assert_eq!(rig.alternate(), READY | status::DRQ, "the drive waits");
    rig.reset();
    assert_eq!(rig.status(), READY);
}

#[test]
fn regions_that_are_no_ram_are_refused() {
    let rig = Rig::disk();
    for address in [RAM as u32, 0xE000_0000, 0xFFFF_F000, RAM as u32 - 0x800] {
        rig.table(&[(DATA, 512), (address, 0xE00)]);
        refused(&rig);
        assert_eq!(rig.memory(DATA, 512), [0; 512], "nothing was moved");
    }
}

#[test]
fn regions_across_64_kib_are_refused() {
    let rig = Rig::disk();
    rig.table(&[(DATA + 0xFF00, 0x200)]);
    refused(&rig);
}

#[test]
fn a_table_that_is_no_ram_is_refused() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 512)]);
    rig.bus.write_port(rig.master() + 4, &0xFFFF_FFFC_u32.to_le_bytes());
    refused(&rig);
    rig.bus.write_port(rig.master(), &[0]);
    rig.bus.write_port(rig.master() + 2, &[6]);
    rig.bus.write_port(rig.master() + 4, &(RAM as u32 - 4).to_le_bytes());
    refused(&rig);
}

#[test]
fn a_table_across_64_kib_is_refused() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 512)]);
    rig.entry(0x4_FFF8, DATA, 2, 0);
    rig.entry(0x5_0000, DATA, 0x1000, END_OF_TABLE);
    rig.bus.write_port(rig.master() + 4, &0x4_FFF8_u32.to_le_bytes());
    refused(&rig);
}

#[test]
fn a_direction_that_is_not_the_commands_is_refused() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 512)]);
    rig.lba28(AtaCommand::WRITE_DMA, 0, 1);
    rig.start(READ);
    assert_eq!(rig.master_status() & EVENTS, master::ERROR);
    assert_eq!(rig.disk.content(), content(SECTORS, 512));
}

#[test]
fn a_command_is_not_heard_while_a_block_waits() {
    let rig = Rig::disk();
    rig.lba28(AtaCommand::READ_SECTORS, 1, 1);
    rig.put(reg::LBA_LOW, 99);
    rig.put(reg::DEVICE, 0xF0);
    rig.command(AtaCommand::WRITE_SECTORS);
    rig.command(AtaCommand::EXECUTE_DEVICE_DIAGNOSTIC);
    rig.command(AtaCommand::DEVICE_RESET);
    assert_eq!(rig.status(), READY | status::DRQ);
    assert_eq!(rig.read_data(512)[..8], 1_u64.to_le_bytes());
    assert_eq!(rig.status(), READY);
}

#[test]
fn part_of_a_block_is_waited_for_until_a_reset() {
    let rig = Rig::disk();
    rig.lba28(AtaCommand::WRITE_SECTORS, 1, 2);
    rig.write_data(&[9; 510]);
    assert_eq!(rig.status(), READY | status::DRQ);
    rig.reset();
    assert_eq!((rig.status(), rig.result()), (READY, [1, 1, 0, 0]));
    assert_eq!(rig.disk.content(), content(SECTORS, 512));
    rig.lba28(AtaCommand::READ_SECTORS, 4, 1);
    assert_eq!(rig.read_data(512)[..8], 4_u64.to_le_bytes());
}

#[test]
fn data_that_nobody_asked_for_is_nothing() {
    let rig = Rig::disk();
    assert_eq!(rig.read_data(4), [0xFF; 4]);
    rig.write_data(&[1; 1024]);
    assert_eq!((rig.status(), rig.disk.content()), (READY, content(SECTORS, 512)));
    rig.lba28(AtaCommand::READ_SECTORS, 0, 1);
    rig.write_data(&[1; 512]);
    assert_eq!(rig.read_data(512), content(1, 512), "writes do not count while it is read");
}

#[test]
fn odd_widths_of_the_data_register_lose_nothing() {
    let rig = Rig::disk();
    rig.lba28(AtaCommand::READ_SECTORS, 2, 1);
    let mut data = Vec::new();
    data.extend(rig.bus.read_port::<1>(COMMAND));
    data.extend(rig.bus.read_port::<3>(COMMAND));
    data.extend(rig.bus.read_port::<4>(COMMAND));
    data.extend(rig.bus.read_port::<8>(COMMAND));
    data.extend(rig.read_data(512 - 16));
    assert_eq!(data, content(3, 512)[1024..]);
    assert_eq!(rig.status(), READY);
}

#[test]
fn one_access_may_be_of_several_registers() {
    let rig = Rig::disk();
    rig.bus.write_port(COMMAND + 2, &[1, 9, 0, 0]);
    rig.bus.write_port(COMMAND + 6, &[0xE0, AtaCommand::READ_SECTORS.0]);
    assert_eq!(rig.read_data(512)[..8], 9_u64.to_le_bytes());
    assert_eq!(rig.bus.read_port::<2>(COMMAND + 6), [0xE0, READY]);
}

#[test]
fn a_reset_that_never_ends_keeps_the_drive_busy() {
    let rig = Rig::disk();
    rig.control(control::SRST);
    rig.command(AtaCommand::IDENTIFY_DEVICE);
    rig.put(reg::SECTOR_COUNT, 7);
    assert_eq!((rig.status(), rig.interrupt()), (status::BSY, false));
    rig.control(0);
    assert_eq!((rig.status(), rig.result()), (READY, [1, 1, 0, 0]));
}

#[test]
fn a_channel_that_is_not_decoded_has_no_ports() {
    let rig = Rig::disk();
    rig.bus.write_config(SLOT, 1, 0x41, &[0]);
    assert_eq!(rig.status(), 0xFF);
    assert!(!rig.bus.write_port(COMMAND, &[0]));
    rig.bus.write_config(SLOT, 1, 0x41, &[0x80]);
    assert_eq!(rig.status(), READY);
}

#[test]
fn a_stopped_bus_master_leaves_the_drive_where_it_was() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 512)]);
    rig.start(READ);
    rig.start(0);
    rig.lba28(AtaCommand::READ_DMA, 6, 1);
    assert_eq!((rig.alternate(), rig.master_status() & EVENTS), (READY | status::DRQ, 0));
    rig.start(READ);
    assert_eq!((rig.status(), rig.memory(DATA, 8)), (READY, 6_u64.to_le_bytes().to_vec()));
}
