//! Functions that only say what they are: the host bridge and the ISA bridge, so that guests know the rest for a PC's.

use hv_abi::pci::{PciClass, PciCommand, PciId, PciStatus};

use super::{ConfigSpace, PciFunction};

/// A function with a configuration space and nothing else.
pub struct Bridge(ConfigSpace);

impl Bridge {
    /// Intel 82441FX (82441FX data sheet, §3.2: device 0; memory and bus master are always on, status 0x0280 less the capability
    /// of fast back-to-back transactions; revision 2).
    pub fn host() -> Self {
        let config = ConfigSpace::new(PciId::INTEL_440FX, PciClass::HOST_BRIDGE, 2)
            .with_command_bits(PciCommand::empty())
            .with_status(PciStatus::DEVSEL_MEDIUM);
        Self(with_command(config, PciCommand::MEMORY | PciCommand::MASTER))
    }

    /// Intel 82371AB, function 0 (82371AB data sheet, §4.1: I/O, memory, bus master and special cycles always on; status 0x0280
    /// less the capability of fast back-to-back transactions).
    pub fn isa() -> Self {
        let config = ConfigSpace::new(PciId::INTEL_PIIX4_ISA, PciClass::ISA_BRIDGE, 1)
            .with_command_bits(PciCommand::empty())
            .with_status(PciStatus::DEVSEL_MEDIUM);
        Self(with_command(config, PciCommand::IO | PciCommand::MEMORY | PciCommand::MASTER))
    }
}

fn with_command(config: ConfigSpace, command: PciCommand) -> ConfigSpace {
    config.with(hv_abi::pci::PCI_COMMAND, &command.bits().to_le_bytes())
}

impl PciFunction for Bridge {
    fn config(&self) -> &ConfigSpace {
        &self.0
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.0
    }
}
