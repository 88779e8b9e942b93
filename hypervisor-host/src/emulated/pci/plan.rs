//! What is to be on a machine's bus, before there is a machine.
//!
//! What devices are made of is opened while mistakes can still be told like any others; the devices themselves need guest RAM
//! and interrupt lines.

use std::io;

use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::bridges::Bridge;
use super::{AddError, DeviceContext, IrqLines, PciBus, PciFunction};
use crate::layout::{PCI_HOST_BRIDGE_SLOT, PCI_PIIX4_SLOT};

/// Makes a function.
type Make = Box<dyn FnOnce(&DeviceContext) -> io::Result<Box<dyn PciFunction>>>;

/// Functions to come, the bridges of a PC aside.
#[derive(Default)]
pub struct PciPlan(Vec<Planned>);

struct Planned {
    slot: u8,
    function: u8,
    make: Make,
}

/// A bus could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// There is no place for a function.
    #[error("a PCI device: {0}")]
    Add(#[from] AddError),
    /// The operating system refuses something that a function takes.
    #[error("a PCI device: {0}")]
    Device(#[from] io::Error),
}

impl PciPlan {
    /// Whether there would be nothing but bridges.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has `make` make a function of a slot.
    pub fn add(
        &mut self,
        slot: u8,
        function: u8,
        make: impl FnOnce(&DeviceContext) -> io::Result<Box<dyn PciFunction>> + 'static,
    ) {
        self.0.push(Planned { slot, function, make: Box::new(make) });
    }

    /// The bus, with the bridges and all functions.
    ///
    /// # Errors
    /// A function can't be made, or has no place.
    pub fn build(
        self,
        memory: &GuestMemoryMmap,
        interrupts: &IrqLines,
    ) -> Result<PciBus, BuildError> {
        let mut bus = PciBus::default();
        bus.add(PCI_HOST_BRIDGE_SLOT, 0, Box::new(Bridge::host()))?;
        bus.add(PCI_PIIX4_SLOT, 0, Box::new(Bridge::isa()))?;
        for Planned { slot, function, make } in self.0 {
            let (memory, interrupts) = (memory.clone(), interrupts.clone());
            bus.add(slot, function, make(&DeviceContext { memory, interrupts, slot })?)?;
        }
        Ok(bus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_abi::pci::{PCI_VENDOR_ID, PciAddress};
    use vm_memory::GuestAddress;

    fn build(plan: PciPlan) -> Result<PciBus, BuildError> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        plan.build(&memory, &IrqLines::new(|_, _| ()))
    }

    fn id(bus: &PciBus, slot: u8, function: u8) -> [u8; 4] {
        let mut data = [0; 4];
        bus.read_config(PciAddress::new(0, slot, function), PCI_VENDOR_ID.into(), &mut data);
        data
    }

    #[test]
    fn bridges_come_first_and_functions_where_they_were_planned() {
        let mut plan = PciPlan::default();
        plan.add(1, 1, |context| {
            assert_eq!(context.slot, 1);
            Ok(Box::new(Bridge::isa()))
        });
        let bus = build(plan).unwrap();
        // 8086:1237 and 8086:7110, as `lspci -n` of QEMU's `pc` machine shows the first.
        assert_eq!(id(&bus, 0, 0), [0x86, 0x80, 0x37, 0x12]);
        assert_eq!(id(&bus, 1, 0), [0x86, 0x80, 0x10, 0x71]);
        assert_eq!(id(&bus, 1, 1), [0x86, 0x80, 0x10, 0x71]);
        assert_eq!(id(&bus, 2, 0), [0xFF; 4]);
    }

    #[test]
    fn what_can_not_be_is_told() {
        let mut plan = PciPlan::default();
        plan.add(0, 0, |_| Ok(Box::new(Bridge::isa())));
        let error = build(plan).err().unwrap().to_string();
        assert!(error.contains("taken"), "{error}");
        let mut plan = PciPlan::default();
        plan.add(2, 0, |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert!(matches!(build(plan), Err(BuildError::Device(_))));
    }
}
