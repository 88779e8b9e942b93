//! An IDE controller whose registers are written and read at random, with descriptors anywhere: it never panics, never says that it is
//! busy and has data at once, and a reset always brings its drives back.
//!
//! The first byte chooses the drives. Then accesses: a byte says what of, and numbers follow. A number may be small, so that
//! commands and descriptors mean something.

#![no_main]

use std::sync::Arc;

use enlighten_fuzz::Script;
use hv_abi::ata::{control, status};
use hypervisor_host::emulated::ide::IdeDrive;
use hypervisor_host::emulated::ide::testing::{SLOT, bus};
use hypervisor_host::emulated::pci::testing::TestBus;
use hypervisor_host::storage::memory::MemoryDisk;
use hypervisor_host::storage::unit::Unit;
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

const RAM: usize = 256 << 10;
const DISK: usize = 192 << 10;
const COMMANDS: [u16; 2] = [0x1F0, 0x170];
const CONTROLS: [u16; 2] = [0x3F6, 0x376];

fuzz_target!(|input: &[u8]| {
    let mut script = Script(input);
    let Some(choice) = script.byte() else { return };
    let Ok(bus) = bus(RAM, drives(choice)) else { return };
    let master = bus.base(SLOT, 1, 4) as u16;
    while access(&bus, master, &mut script).is_some() {
        for port in CONTROLS {
            let [status] = bus.read_port::<1>(port);
            // All ones where the channel is not decoded.
            let busy = status & status::BSY != 0 && status != 0xFF;
            assert!(!busy || status & status::DRQ == 0, "{status:#x}");
        }
    }
    come_back(&bus, choice);
});

/// Two bits for each drive: none, a disk, a CD-ROM, a disk that is read-only.
fn drives(choice: u8) -> [Option<IdeDrive>; 4] {
    [0, 2, 4, 6].map(|shift| {
        let content = vec![shift; DISK];
        let disk = match choice >> shift & 3 {
            1 => MemoryDisk::new(content),
            2 | 3 => MemoryDisk::read_only(content),
            _ => return None,
        };
        let unit = Arc::new(Unit::new("fuzz", 1, Arc::new(disk)));
        Some(if choice >> shift & 3 == 2 { IdeDrive::CdRom(unit) } else { IdeDrive::Disk(unit) })
    })
}

fn access(bus: &TestBus, master: u16, script: &mut Script<'_>) -> Option<()> {
    let what = script.byte()?;
    let channel = usize::from(what >> 7);
    match what & 0x0F {
        // A register of the command block.
        0..=4 => {
            let port = COMMANDS[channel] + u16::from(what >> 4 & 7);
            bus.write_port(port, &[script.byte()?]);
        }
        5 => {
            let _ = bus.read_port::<1>(COMMANDS[channel] + u16::from(what >> 4 & 7));
        }
        6 => {
            let _ = bus.read_port::<4>(COMMANDS[channel] + u16::from(what >> 4 & 7));
        }
        7 => {
            bus.write_port(CONTROLS[channel], &[script.byte()?]);
        }
        8 => {
            bus.write_port(master + u16::from(what >> 4), &[script.byte()?]);
        }
        9 => {
            let table = script.number()?;
            bus.write_port(master + 4 + 8 * channel as u16, &table.to_le_bytes());
        }
        // Descriptors, ranges, data.
        10 | 11 => {
            let at = script.number()?;
            let _ = bus.memory.write_slice(script.bytes()?, GuestAddress(at.into()));
        }
        12 => {
            let mut data = vec![0; usize::from(script.byte()?) * 16];
            bus.bus.read_port_repeated(COMMANDS[channel], 2, &mut data);
        }
        13 => {
            bus.bus.write_port_repeated(COMMANDS[channel], 2, script.bytes()?);
        }
        // Blocks without a byte of the script for each of theirs.
        14 => {
            let data = vec![script.byte()?; 512];
            bus.bus.write_port_repeated(COMMANDS[channel], 4, &data);
        }
        _ => bus.write_config(SLOT, 1, script.byte()?, &[script.byte()?]),
    }
    Some(())
}

/// Whatever was done, a reset ends it.
fn come_back(bus: &TestBus, choice: u8) {
    bus.write_config(SLOT, 1, 0x04, &[0x05]);
    bus.write_config(SLOT, 1, 0x40, &[0, 0x80, 0, 0x80]);
    for (channel, (command, port)) in COMMANDS.into_iter().zip(CONTROLS).enumerate() {
        bus.write_port(port, &[control::SRST]);
        bus.write_port(port, &[0]);
        for (drive, select) in [0xA0_u8, 0xB0].into_iter().enumerate() {
            let kind = choice >> (channel * 4 + drive * 2) & 3;
            bus.write_port(command + 6, &[select]);
            let [status] = bus.read_port::<1>(command + 7);
            let expected = match kind {
                1 | 3 => status::DRDY | status::DSC,
                2 => 0,
                _ => continue,
            };
            assert_eq!(status, expected, "channel {channel}, drive {drive}");
        }
    }
}
