//! DEC 21140A on this machine: where it is on PCI, and its interrupt.

use alloc::format;
use alloc::string::String;

use hv_abi::pci::{PCI_COMMAND, PciCommand};
use hv_abi::tulip::{CFDD, TULIP_DEVICE_21140, TULIP_DEVICE_21143, TULIP_VENDOR};
use kernel::acpi::Signal;
use kernel::pci::{self, Bar, PciDevice, PortRegisters, config};
use kernel::tulip::{Chip, Tulip, TulipOptions};
use spin::RwLock;
use x86_64::instructions::interrupts::without_interrupts;

use super::ioapic;
use super::pci::Ports;
use super::vmbus::{self, KernelHal};

/// A card of this machine.
pub(crate) type Card = Tulip<PortRegisters<Ports>, KernelHal>;

/// The card that gets the interrupts. Whoever takes part in interrupts only reads it.
static CARD: RwLock<Option<Card>> = RwLock::new(None);

/// Whether the machine has a card.
pub(crate) fn is_there() -> bool {
    find().is_some()
}

/// The first card, and what it is.
fn find() -> Option<(PciDevice, Chip)> {
    pci::scan(&Ports).into_iter().find_map(|device| match (device.id.vendor, device.id.device) {
        (TULIP_VENDOR, TULIP_DEVICE_21140) => Some((device, Chip::Dc21140)),
        (TULIP_VENDOR, TULIP_DEVICE_21143) => Some((device, Chip::Dc21143)),
        _ => None,
    })
}

/// Starts the first card, which has the interrupts from then on, until [`forget`].
pub(crate) async fn start(options: TulipOptions) -> Result<Card, String> {
    let (device, chip) = find().ok_or("no DEC 21140A on PCI")?;
    let base = device.bars[0].and_then(Bar::port).ok_or("the card has no ports")?;
    let command = config::command(&Ports, device.address);
    let wanted = command | PciCommand::IO | PciCommand::MASTER;
    config::write16(&Ports, device.address, PCI_COMMAND, wanted.bits());
    // Awake, also after firmware has put it to sleep.
    config::write32(&Ports, device.address, CFDD, 0);
    let registers = PortRegisters::new(Ports, base);
    let card = Tulip::start(registers, vmbus::hal_without_bus(), TulipOptions { chip, ..options });
    let card = card.await.map_err(|error| format!("start the card: {error}"))?;
    set(Some(card.clone()));
    let line = device.interrupt_line.ok_or("the card has no interrupt")?;
    ioapic::connect(line, Signal::PCI, |_| on_interrupt())
        .map_err(|error| format!("interrupt {line}: {error}"))?;
    Ok(card)
}

/// Gives nobody the interrupts any longer.
pub(crate) fn forget() {
    set(None);
}

fn set(card: Option<Card>) {
    let old = without_interrupts(|| core::mem::replace(&mut *CARD.write(), card));
    // With interrupts on: it may be the last.
    drop(old);
}

fn on_interrupt() {
    if let Some(card) = &*CARD.read() {
        card.on_interrupt();
    }
}
