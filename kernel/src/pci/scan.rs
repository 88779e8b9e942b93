//! Finding all functions.

use alloc::vec::Vec;

use hv_abi::pci::{
    PCI_BARS, PCI_BASE_ADDRESS_0, PCI_FUNCTIONS, PCI_HEADER_BRIDGE, PCI_HEADER_MULTIFUNCTION,
    PCI_HEADER_TYPE, PCI_INTERRUPT_LINE, PCI_INTERRUPT_LINE_NONE, PCI_REVISION_ID,
    PCI_SECONDARY_BUS, PCI_SLOTS, PCI_VENDOR_ID, PCI_VENDOR_NONE, PciAddress, PciClass, PciId,
};

use super::{Bar, PortIo, bar, config};

/// More functions than a machine has. A hostile one could show 65,536, each of which costs a few exits.
const MOST: usize = 512;

/// A function of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// Whose it is, and which.
    pub id: PciId,
    /// What it is.
    pub class: PciClass,
    /// Where its registers are.
    pub bars: [Option<Bar>; PCI_BARS],
    /// The interrupt that firmware gave it, as the number of an ISA interrupt or of a GSI; `None` if it has none.
    pub interrupt_line: Option<u8>,
}

/// All functions that mechanism 1 reaches, in the order of their addresses on each bus. None if there is no PCI.
pub fn scan(ports: &impl PortIo) -> Vec<PciDevice> {
    let mut found = Vec::new();
    if !config::is_present(ports) {
        return found;
    }
    let mut seen = [false; 256];
    seen[0] = true;
    let mut buses = Vec::from([0_u8]);
    while let Some(bus) = buses.pop() {
        let from = found.len();
        scan_bus(ports, bus, &mut found);
        for device in found.iter().skip(from) {
            let Some(behind) = bus_behind(ports, device) else { continue };
            if !core::mem::replace(&mut seen[usize::from(behind)], true) {
                buses.push(behind);
            }
        }
    }
    found
}

fn scan_bus(ports: &impl PortIo, bus: u8, found: &mut Vec<PciDevice>) {
    for slot in 0..PCI_SLOTS {
        let first = PciAddress::new(bus, slot, 0);
        let Some(device) = look(ports, first) else { continue };
        found.push(device);
        let has_others = header_type(ports, first) & PCI_HEADER_MULTIFUNCTION != 0;
        let others = if has_others { 1..PCI_FUNCTIONS } else { 1..1 };
        found.extend(others.filter_map(|other| look(ports, PciAddress::new(bus, slot, other))));
        if found.len() >= MOST {
            found.truncate(MOST);
            return;
        }
    }
}

fn header_type(ports: &impl PortIo, address: PciAddress) -> u8 {
    config::read8(ports, address, PCI_HEADER_TYPE)
}

/// The bus behind a bridge between PCI buses.
fn bus_behind(ports: &impl PortIo, device: &PciDevice) -> Option<u8> {
    let kind = header_type(ports, device.address) & !PCI_HEADER_MULTIFUNCTION;
    let is_bridge = device.class.base_and_sub() == PciClass::PCI_BRIDGE.base_and_sub()
        && kind == PCI_HEADER_BRIDGE;
    is_bridge.then(|| config::read8(ports, device.address, PCI_SECONDARY_BUS))
}

/// The function at `address`, if there is one.
fn look(ports: &impl PortIo, address: PciAddress) -> Option<PciDevice> {
    let id = config::read32(ports, address, PCI_VENDOR_ID);
    let (vendor, device) = (id as u16, (id >> 16) as u16);
    if vendor == PCI_VENDOR_NONE || vendor == 0 {
        return None;
    }
    let class = PciClass(config::read32(ports, address, PCI_REVISION_ID) >> 8);
    let count = match header_type(ports, address) & !PCI_HEADER_MULTIFUNCTION {
        0 => PCI_BARS,
        PCI_HEADER_BRIDGE => 2,
        _ => 0,
    };
    let mut values = [0; PCI_BARS];
    for (value, index) in values.iter_mut().zip(0u8..).take(count) {
        *value = config::read32(ports, address, PCI_BASE_ADDRESS_0 + 4 * index);
    }
    let [line, pin, ..] = config::read32(ports, address, PCI_INTERRUPT_LINE).to_le_bytes();
    // Interrupt 0 is the timer's on every PC.
    let connected = (1..=4).contains(&pin) && line != 0 && line != PCI_INTERRUPT_LINE_NONE;
    Some(PciDevice {
        address,
        id: PciId::new(vendor, device),
        class,
        bars: bar::decode(values, count),
        interrupt_line: connected.then_some(line),
    })
}
