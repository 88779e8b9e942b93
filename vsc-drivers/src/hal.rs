//! What a kernel supplies: memory, hypercalls, time, and a way to wait.

#![expect(unsafe_code, reason = "a kernel promises things about memory that nobody can check")]

mod dma;

pub use dma::{DmaBuffer, DmaPages, OutOfRange};

use core::sync::atomic::AtomicBool;
use core::task::Waker;

use hv_abi::hypercall::HvError;
pub use hv_enlightenments::Gpa;

/// What a kernel supplies. Cheap to clone: a token or a reference.
///
/// # Safety
///
/// - [`allocate`](Self::allocate) gives memory that nothing else uses until it is [freed](Self::free), and whose two
///   addresses belong together.
/// - [`gpa`](Self::gpa) gives the address by which the hypervisor sees that very byte.
/// - [`without_interrupts`](Self::without_interrupts) runs its closure with interrupts masked on the processor that runs it, exactly
///   once, and then leaves interrupts as they were.
pub unsafe trait Hal: Clone + Send + Sync + 'static {
    /// Allocates `pages` pages of zeros, contiguous for the guest and for the hypervisor; `None` if there are none, or if `pages` is 0.
    fn allocate(&self, pages: usize) -> Option<DmaPages>;

    /// Frees what [`allocate`](Self::allocate) gave.
    ///
    /// # Safety
    ///
    /// `pages` came from this allocator, and nobody uses them any longer, the host included.
    unsafe fn free(&self, pages: DmaPages);

    /// Where the hypervisor sees the byte at `address` of ordinary kernel memory, which a caller lends for I/O. What is
    /// contiguous for the guest need not be for the hypervisor: ask for each page. `None` if it is not mapped.
    fn gpa(&self, address: *const u8) -> Option<Gpa>;

    /// `HvCallPostMessage` with at most 240 bytes of payload.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    fn post_message(
        &self,
        connection: u32,
        message_type: u32,
        payload: &[u8],
    ) -> Result<(), HvError>;

    /// `HvCallSignalEvent`.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    fn signal_event(&self, connection: u32, flag: u16) -> Result<(), HvError>;

    /// The virtual processor that gets the bus's messages, by its number in hypercalls.
    fn vp_index(&self) -> u32;

    /// Time since any fixed moment, in units of 100 ns; never goes back.
    fn now_100ns(&self) -> u64;

    /// Wakes `waker` once when the clock has reached `deadline_100ns`.
    ///
    /// Of several deadlines of the same task (see [`Waker::will_wake`]) only the earliest need be kept: whoever is woken
    /// before its own deadline asks again. There is no way to take a deadline back.
    fn wake_at(&self, deadline_100ns: u64, waker: &Waker);

    /// Runs `f` with interrupts masked on this processor.
    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R;

    /// For [`block_on`](crate::task::block_on): waits for an interrupt, unless `woken` is set. May return at any time; must, some time,
    /// if another processor can set `woken` meanwhile.
    ///
    /// A kernel masks interrupts, looks at `woken`, and waits in a way that ends with a pending interrupt (`sti; hlt`).
    fn relax(&self, woken: &AtomicBool);
}
