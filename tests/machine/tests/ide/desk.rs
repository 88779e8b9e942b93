//! A guest's kernel with the host's IDE controller in its ports. Time is virtual: it passes while nothing else can happen.

#![expect(unsafe_code, reason = "implements the drivers' trait")]

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use hv_abi::ata::{PRIMARY_IRQ, SECONDARY_IRQ};
use hv_abi::hypercall::HvError;
use hypervisor_host::emulated::ide::testing::SLOT;
use hypervisor_host::emulated::ide::{DRIVES, IdeController, IdeDrive};
use hypervisor_host::emulated::pci::testing::TestBus;
use in_process::ram::Ram;
use kernel::ide::{Channel, Controller};
use kernel::pci::PortIo;
use vsc_drivers::{DmaPages, Gpa, Hal, block_on};

type DeskChannel = Arc<Channel<Desk, Desk>>;

/// Kernel and machine. Clones are the same.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    bus: TestBus,
    ram: Ram,
    now_100ns: AtomicU64,
    alarms: Mutex<Vec<(u64, Waker)>>,
    /// Interrupts of each channel that were handled.
    handled: [AtomicU64; 2],
    channels: Mutex<Option<[DeskChannel; 2]>>,
    /// Memory is said to lie where none is.
    lies: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A machine with these drives, whose disks do their work at once.
    pub(crate) fn new(drives: [Option<IdeDrive>; DRIVES]) -> Self {
        let ram = Ram::new();
        let mut bus = TestBus::with_memory(ram.memory().clone());
        let controller = IdeController::at_once(&bus.context(SLOT), drives).expect("no threads");
        bus.add(SLOT, 1, controller).expect("there is room");
        Self(Arc::new(Inner {
            bus,
            ram,
            now_100ns: AtomicU64::new(1),
            alarms: Mutex::default(),
            handled: Default::default(),
            channels: Mutex::default(),
            lies: AtomicBool::new(false),
        }))
    }

    /// The driver, with all drives found and interrupts on.
    pub(crate) fn controller(&self) -> Controller<Self, Self> {
        let base = self.0.bus.base(SLOT, 1, 4) as u16;
        let mut controller = Controller::at(self.clone(), self.clone(), Some(base));
        self.run(controller.detect());
        *lock(&self.0.channels) = Some(controller.channels().clone());
        controller.channels().iter().for_each(|channel| channel.use_interrupts(true));
        controller
    }

    /// From now on memory is said to lie where none is, or no longer.
    pub(crate) fn lie(&self, lies: bool) {
        self.0.lies.store(lies, Ordering::SeqCst);
    }

    /// Polls a future until it is ready.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(self, pending::<()>(), future)
    }

    /// Calls the handlers of channels that have interrupted; whether there were any.
    fn interrupts(&self) -> bool {
        let channels = lock(&self.0.channels).clone();
        let lines = [PRIMARY_IRQ, SECONDARY_IRQ];
        let mut any = false;
        for ((index, line), handled) in lines.into_iter().enumerate().zip(&self.0.handled) {
            let raised = self.0.bus.raised(line.into());
            if handled.swap(raised, Ordering::SeqCst) != raised {
                any = true;
                if let Some(channels) = &channels {
                    channels[index].on_interrupt();
                }
            }
        }
        any
    }
}

impl PortIo for Desk {
    fn read8(&self, port: u16) -> u8 {
        u8::from_le_bytes(self.0.bus.read_port(port))
    }

    fn read16(&self, port: u16) -> u16 {
        u16::from_le_bytes(self.0.bus.read_port(port))
    }

    fn read32(&self, port: u16) -> u32 {
        u32::from_le_bytes(self.0.bus.read_port(port))
    }

    fn write8(&self, port: u16, value: u8) {
        self.0.bus.write_port(port, &[value]);
    }

    fn write16(&self, port: u16, value: u16) {
        self.0.bus.write_port(port, &value.to_le_bytes());
    }

    fn write32(&self, port: u16, value: u32) {
        self.0.bus.write_port(port, &value.to_le_bytes());
    }
}

// SAFETY: memory is the process's own, at one address for both sides. Handlers run on the one thread that there is, where it waits.
unsafe impl Hal for Desk {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        let address = self.0.ram.take(pages)?;
        // SAFETY: zeros that nobody else has, at this address for both sides.
        unsafe { DmaPages::new(address, Gpa(address.addr().get() as u64), pages) }
    }

    unsafe fn free(&self, pages: DmaPages) {
        // SAFETY: from `allocate`, and no longer used, as the caller says.
        unsafe { self.0.ram.give_back(pages.address(), pages.pages()) };
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        // Below what any process has.
        const NOWHERE: u64 = 0x1000;
        let address = address.expose_provenance() as u64;
        Some(Gpa(if self.0.lies.load(Ordering::SeqCst) { NOWHERE } else { address }))
    }

    fn post_message(&self, _: u32, _: u32, _: &[u8]) -> Result<(), HvError> {
        Err(HvError::ACCESS_DENIED)
    }

    fn signal_event(&self, _: u32, _: u16) -> Result<(), HvError> {
        Err(HvError::ACCESS_DENIED)
    }

    fn vp_index(&self) -> u32 {
        0
    }

    fn now_100ns(&self) -> u64 {
        self.0.now_100ns.load(Ordering::SeqCst)
    }

    fn wake_at(&self, deadline_100ns: u64, waker: &Waker) {
        lock(&self.0.alarms).push((deadline_100ns, waker.clone()));
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn relax(&self, _: &AtomicBool) {
        if self.interrupts() {
            return;
        }
        let mut alarms = lock(&self.0.alarms);
        let next = alarms.iter().map(|(deadline, _)| *deadline).min();
        let next = next.expect("nothing is left that could ever happen");
        self.0.now_100ns.fetch_max(next, Ordering::SeqCst);
        let due: Vec<_> = alarms.extract_if(.., |(deadline, _)| *deadline <= next).collect();
        drop(alarms);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}
