//! The IDE controller of this machine, and its channels' interrupts.

use alloc::sync::Arc;

use hv_abi::ata::{PRIMARY_IRQ, SECONDARY_IRQ};
use kernel::acpi::Signal;
use kernel::ide::{self, AtaDisk, CdRom, Channel};
use kernel::pci;
use spin::RwLock;
use x86_64::instructions::interrupts::without_interrupts;

use super::ioapic;
use super::pci::Ports;
use super::vmbus::{KernelHal, hal_without_bus};

/// A controller of this machine.
pub(crate) type Controller = ide::Controller<Ports, KernelHal>;
/// A disk on it.
pub(crate) type Disk = AtaDisk<Ports, KernelHal>;
/// A CD-ROM drive on it.
pub(crate) type Cd = CdRom<Ports, KernelHal>;

type KernelChannel = Arc<Channel<Ports, KernelHal>>;

/// Who gets the interrupts of the primary channel and of the secondary. Handlers only read it.
static CHANNELS: RwLock<[Option<KernelChannel>; 2]> = RwLock::new([None, None]);

/// The first controller, with its drives and its interrupts; `None` if there is none.
pub(crate) async fn start() -> Option<Controller> {
    let device = pci::scan(&Ports).into_iter().find(ide::is_ide)?;
    let mut controller = Controller::new(Ports, hal_without_bus(), &device);
    controller.detect().await;
    let new = controller.channels().clone().map(Some);
    // With interrupts on: the old ones may be the last.
    drop(without_interrupts(|| core::mem::replace(&mut *CHANNELS.write(), new)));
    let handlers: [ioapic::Handler; 2] = [|_| on_interrupt(0), |_| on_interrupt(1)];
    let lines = [PRIMARY_IRQ, SECONDARY_IRQ].into_iter().zip(handlers);
    for (channel, (line, handler)) in controller.channels().iter().zip(lines) {
        match ioapic::connect(line, Signal::ISA, handler) {
            Ok(_) => channel.use_interrupts(true),
            Err(reason) => log::warn!("IDE channels are polled: interrupt {line}: {reason}"),
        }
    }
    Some(controller)
}

fn on_interrupt(number: usize) {
    if let Some(channel) = &CHANNELS.read()[number] {
        channel.on_interrupt();
    }
}
