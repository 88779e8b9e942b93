//! The card on the PCI bus: configuration space, registers, and the thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hv_abi::pci::{
    PCI_LATENCY_TIMER, PCI_MAX_LAT, PCI_MIN_GNT, PCI_STATUS, PciClass, PciCommand, PciId, PciStatus,
};
use hv_abi::tulip::csr::Mode;
use hv_abi::tulip::{
    CFDD, CFDD_DRIVER, CFDD_SLEEP, CFDD_SNOOZE, TULIP_DEVICE_21140, TULIP_REGISTER_BYTES,
    TULIP_REVISION_21140A, TULIP_VENDOR,
};

use super::Tulip;
use super::registers::Effect;
use super::worker::Worker;
use crate::emulated::pci::bar::Bar;
use crate::emulated::pci::{ConfigSpace, DeviceContext, PciFunction, Place};

/// Bits of CSR6 that have frames come back.
pub(super) const LOOPBACK: Mode = Mode::OM_INTERNAL.union(Mode::OM_EXTERNAL);
/// Pin A.
const INTERRUPT_PIN: u8 = 1;
/// Burst of 5 µs, every 10 µs, in quarters of a microsecond (CFIT).
const MIN_GRANT: u8 = 0x14;
const MAX_LATENCY: u8 = 0x28;

/// The card's function.
pub struct TulipFunction {
    config: ConfigSpace,
    card: Arc<Tulip>,
    thread: Option<JoinHandle<()>>,
}

impl TulipFunction {
    /// Plugs a card into a machine, and starts its thread, which ends with the function. A card has one function.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn new(card: Arc<Tulip>, context: &DeviceContext) -> io::Result<Self> {
        let (mut function, worker) = Self::without_thread(card, context);
        let name = format!("tulip-{}", function.card.name());
        function.thread = Some(thread::Builder::new().name(name).spawn(|| worker.run())?);
        Ok(function)
    }

    /// The same without a thread: somebody else gives the worker its turns.
    pub(super) fn without_thread(card: Arc<Tulip>, context: &DeviceContext) -> (Self, Worker) {
        card.connect(context.intx(INTERRUPT_PIN));
        let worker = Worker::new(Arc::clone(&card), context.memory.clone());
        (Self { config: config_space(), card, thread: None }, worker)
    }

    fn is_asleep(&self) -> bool {
        self.config.u32(CFDD) & CFDD_SLEEP != 0
    }

    /// The guest learns of a bus error from configuration space, too.
    fn tell_abort(&mut self) {
        if self.card.with(|registers| registers.dead) {
            let status = self.config.u16(PCI_STATUS) | PciStatus::RECEIVED_MASTER_ABORT.bits();
            self.config.set(PCI_STATUS, &status.to_le_bytes());
        }
    }
}

fn config_space() -> ConfigSpace {
    let id = PciId::new(TULIP_VENDOR, TULIP_DEVICE_21140);
    let command = PciCommand::IO
        | PciCommand::MEMORY
        | PciCommand::MASTER
        | PciCommand::PARITY
        | PciCommand::SERR;
    let [ports, bytes] = [TULIP_REGISTER_BYTES as u16, TULIP_REGISTER_BYTES as u16];
    let device_area = CFDD_SLEEP | CFDD_SNOOZE | CFDD_DRIVER;
    ConfigSpace::new(id, PciClass::ETHERNET, TULIP_REVISION_21140A)
        .with_command_bits(command)
        .with_status(PciStatus::DEVSEL_MEDIUM | PciStatus::FAST_BACK_TO_BACK)
        .with_bar(0, Bar::io(ports))
        .with_bar(1, Bar::memory(bytes.into(), false))
        .with_interrupt_pin(INTERRUPT_PIN)
        .with(PCI_MIN_GNT, &[MIN_GRANT])
        .with(PCI_MAX_LAT, &[MAX_LATENCY])
        .with_writable(PCI_LATENCY_TIMER, &[0xFF])
        .with_writable(CFDD, &device_area.to_le_bytes())
}

/// The register at an offset. Registers are eight bytes apart and want to be accessed whole.
fn register(offset: u32) -> Option<u8> {
    let number = u8::try_from(offset / 8).ok()?;
    offset.is_multiple_of(8).then_some(number)
}

impl PciFunction for TulipFunction {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, _offset: u8, _bytes: usize) {
        let able = self.config.command().contains(PciCommand::MASTER) && !self.is_asleep();
        self.card.with(|registers| registers.master = able);
        self.card.kick();
    }

    fn read(&mut self, _place: Place, offset: u32, data: &mut [u8]) {
        if self.is_asleep() {
            return;
        }
        // A part of a register from its beginning is what a guest gets at most; the rest stays ones.
        if let Some(number) = register(offset) {
            self.card.chip.register_reads.add(1);
            let value = self.card.with(|registers| registers.read(number, Instant::now()));
            for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
                *byte = value;
            }
            self.tell_abort();
        }
    }

    fn write(&mut self, _place: Place, offset: u32, data: &[u8]) {
        let whole = data.first_chunk().copied().map(u32::from_le_bytes);
        let (Some(number), Some(value), false) = (register(offset), whole, self.is_asleep()) else {
            return;
        };
        let card = &*self.card;
        card.chip.register_writes.add(1);
        if let 1 | 2 = number {
            card.chip.doorbells.add(1);
        }
        // Only the transceiver asks for the link.
        let link = number == 9 && card.is_link_up();
        match card.with(|registers| registers.write(number, value, link, Instant::now())) {
            Effect::Nothing => {}
            Effect::Wake => card.kick(),
            Effect::Reset => {
                card.wait_for_rest();
                card.kick();
            }
        }
    }
}

impl Drop for TulipFunction {
    fn drop(&mut self) {
        self.card.stopped.store(true, Ordering::Release);
        self.card.kick();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
