//! The kernel that the drivers see.

#![expect(unsafe_code, reason = "implements the drivers' trait; calls' input lies in guest memory")]

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvInputSignalEvent};
use hypervisor_host::hyperv::synic::Synic;
use vm_memory::{Bytes, GuestAddress};
use vsc_drivers::{DmaPages, Gpa, Hal};

use crate::ram::Ram;
use crate::run::{Alarms, reference_100ns};
use crate::vp::lock;

/// The kernel of a [`Machine`](crate::Machine).
#[derive(Clone)]
pub struct InProcessHal {
    inner: Arc<Inner>,
    /// Pages are taken where devices with 32 bits of addresses reach them.
    low: bool,
}

struct Inner {
    ram: Arc<Ram>,
    synic: Arc<Synic>,
    /// Where a call's input lies; one call at a time.
    input: Mutex<u64>,
    alarms: Alarms,
}

impl InProcessHal {
    pub(crate) fn new(ram: Arc<Ram>, synic: Arc<Synic>) -> Self {
        let page = ram.take(1).expect("there is memory for a page");
        let input = Mutex::new(page.addr().get() as u64);
        let inner = Arc::new(Inner { ram, synic, input, alarms: Alarms::start() });
        Self { inner, low: false }
    }

    /// The same kernel, for drivers of devices that reach no more than 4 GiB.
    pub fn with_low_memory(&self) -> Self {
        Self { inner: self.inner.clone(), low: true }
    }

    /// The machine's memory.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.inner.ram
    }
}

/// Where functions of [`InProcessHal`] begin that are the kernel's own work, for whoever counts what drivers do: messages, signals, the clock,
/// time limits.
pub fn entries() -> [usize; 4] {
    type Kernel = InProcessHal;
    let post: fn(&Kernel, u32, u32, &[u8]) -> Result<(), HvError> = Kernel::post_message;
    let signal: fn(&Kernel, u32, u16) -> Result<(), HvError> = Kernel::signal_event;
    let now: fn(&Kernel) -> u64 = Kernel::now_100ns;
    let wake: fn(&Kernel, u64, &Waker) = Kernel::wake_at;
    [post as usize, signal as usize, now as usize, wake as usize]
}

// SAFETY: pages are handed out once and lie in one mapping. Interrupt handlers run on threads of their own, which never wait
// for this one, so that there is nothing to mask.
unsafe impl Hal for InProcessHal {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        let ram = &self.inner.ram;
        let address = if self.low { ram.take_low(pages)? } else { ram.take(pages)? };
        // SAFETY: zeros that nobody else has, at this address for both sides.
        unsafe { DmaPages::new(address, Gpa(address.addr().get() as u64), pages) }
    }

    unsafe fn free(&self, pages: DmaPages) {
        if self.low {
            // SAFETY: from `allocate` of a kernel with low memory, and no longer used, as the caller says.
            unsafe { self.inner.ram.give_back_low(pages.address(), pages.pages()) };
            return;
        }
        // SAFETY: from `allocate`, and no longer used, as the caller says.
        unsafe { self.inner.ram.give_back(pages.address(), pages.pages()) };
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        Some(Gpa(address.expose_provenance() as u64))
    }

    #[inline(never)]
    fn post_message(
        &self,
        connection: u32,
        message_type: u32,
        payload: &[u8],
    ) -> Result<(), HvError> {
        if payload.len() > HV_MESSAGE_PAYLOAD_BYTES {
            return Err(HvError::INVALID_PARAMETER);
        }
        let mut block = [0; 16 + HV_MESSAGE_PAYLOAD_BYTES];
        let words = [connection, 0, message_type, payload.len() as u32].map(u32::to_le_bytes);
        block[..16].copy_from_slice(words.as_flattened());
        block[16..16 + payload.len()].copy_from_slice(payload);
        let input = lock(&self.inner.input);
        let written = self.inner.ram.memory().write_slice(&block, GuestAddress(*input));
        written.map_err(|_| HvError::INVALID_HYPERCALL_INPUT)?;
        self.inner.synic.hypercall(HypercallInput::new(HV_CALL_POST_MESSAGE), *input)
    }

    #[inline(never)]
    fn signal_event(&self, connection: u32, flag: u16) -> Result<(), HvError> {
        let input =
            HvInputSignalEvent { connection_id: connection, flag_number: flag, _reserved: 0 };
        self.inner.synic.hypercall(HypercallInput::new(HV_CALL_SIGNAL_EVENT), input.fast())
    }

    fn vp_index(&self) -> u32 {
        0
    }

    #[inline(never)]
    fn now_100ns(&self) -> u64 {
        reference_100ns()
    }

    #[inline(never)]
    fn wake_at(&self, deadline_100ns: u64, waker: &Waker) {
        self.inner.alarms.set(deadline_100ns, waker);
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn relax(&self, _: &AtomicBool) {
        std::thread::sleep(Duration::from_micros(20));
    }
}
