//! What `vsc-drivers` needs of this kernel.

#![expect(unsafe_code, reason = "memory that the host may write, hypercalls")]

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvInputSignalEvent};
use hv_enlightenments::hypercall::{CallBuffer, CallError};
use hv_enlightenments::{Gpa, HvPage, MappedPage};
use kernel::PAGE_SIZE;
use spin::mutex::SpinMutex;
use vsc_drivers::hal::{DmaPages, Hal};
use x86_64::instructions::interrupts;

use super::alarm;
use crate::machine::{clock, hyperv, jobs, memory, vp};

/// This kernel, as the drivers see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelHal(&'static SpinMutex<CallBuffer>);

impl KernelHal {
    /// Needs a page for messages that are posted.
    pub(super) fn new() -> Self {
        let page = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast::<u8>();
        let gpa = Gpa(page.addr().get() as u64);
        // SAFETY: a page of our own, given away for good; virtual is physical.
        let page = unsafe { MappedPage::new(page, gpa) }.expect("the type's alignment is a page's");
        Self(Box::leak(Box::new(SpinMutex::new(CallBuffer::new(page)))))
    }
}

// SAFETY: frames are handed out once and lie one to one in memory; interrupts are masked around the closure.
unsafe impl Hal for KernelHal {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        let frame = memory::allocate_frames(pages as u64, 1)?;
        let address = NonNull::new(frame as *mut u8)?;
        // SAFETY: frames of our own, mapped one to one.
        unsafe { address.write_bytes(0, pages * PAGE_SIZE as usize) };
        // SAFETY: see above; virtual is physical.
        unsafe { DmaPages::new(address, Gpa(frame), pages) }
    }

    unsafe fn free(&self, pages: DmaPages) {
        let frames = (0..pages.pages() as u64).map(|index| pages.gpa().0 + index * PAGE_SIZE);
        memory::with_frames(|all| {
            for frame in frames {
                // The caller says that they are ours; a frame that is not stays where it is.
                let _ = all.free(frame);
            }
        });
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        let address = address.addr() as u64;
        memory::flags(address).map(|_| Gpa(address))
    }

    fn post_message(
        &self,
        connection: u32,
        message_type: u32,
        payload: &[u8],
    ) -> Result<(), HvError> {
        let calls = hyperv::calls().ok_or(HvError::ACCESS_DENIED)?;
        if payload.len() > HV_MESSAGE_PAYLOAD_BYTES {
            return Err(HvError::INVALID_PARAMETER);
        }
        let mut input = [0; 16 + HV_MESSAGE_PAYLOAD_BYTES];
        let (head, body) = input.split_at_mut(16);
        let words = [connection, 0, message_type, payload.len() as u32].map(u32::to_le_bytes);
        head.copy_from_slice(words.as_flattened());
        body[..payload.len()].copy_from_slice(payload);
        let call = HypercallInput::new(HV_CALL_POST_MESSAGE);
        let result = interrupts::without_interrupts(|| {
            // SAFETY: the call only reads its input; the drivers vouch for what the message makes the host do.
            unsafe { calls.in_memory(call, &mut self.0.lock(), &input, &mut []) }
        });
        result.map_err(|error| match error {
            CallError::Status(status) => status,
            _ => HvError::INVALID_PARAMETER,
        })
    }

    fn signal_event(&self, connection: u32, flag: u16) -> Result<(), HvError> {
        let calls = hyperv::calls().ok_or(HvError::ACCESS_DENIED)?;
        let input =
            HvInputSignalEvent { connection_id: connection, flag_number: flag, _reserved: 0 };
        // SAFETY: the call sets a flag of the host's.
        unsafe { calls.fast(HV_CALL_SIGNAL_EVENT, input.fast(), 0) }
    }

    fn vp_index(&self) -> u32 {
        vp::get(0).and_then(vp::Vp::hypervisor_index).unwrap_or(0)
    }

    fn now_100ns(&self) -> u64 {
        clock::now_100ns()
    }

    fn wake_at(&self, deadline_100ns: u64, waker: &Waker) {
        alarm::set(deadline_100ns, waker);
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        interrupts::without_interrupts(f)
    }

    fn relax(&self, woken: &AtomicBool) {
        jobs::halt_unless(|| woken.load(Ordering::SeqCst));
    }
}
