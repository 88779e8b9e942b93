//! Guest memory that the hypervisor also sees: addresses and pages.

#![expect(unsafe_code, reason = "a page shared with the hypervisor is reached through a pointer")]

use core::fmt;
use core::ptr::NonNull;

use hv_abi::HV_PAGE_SIZE;

/// A guest-physical address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

impl Gpa {
    /// Whether the address is that of a page's first byte.
    pub const fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(HV_PAGE_SIZE as u64)
    }
}

impl fmt::Debug for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpa({:#x})", self.0)
    }
}

/// A page of zeros to lay in a `static` or to allocate, for whatever the hypervisor wants a page for.
#[repr(C, align(4096))]
pub struct HvPage(pub [u8; HV_PAGE_SIZE]);

impl HvPage {
    /// A page of zeros.
    pub const fn new() -> Self {
        Self([0; HV_PAGE_SIZE])
    }
}

impl Default for HvPage {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(size_of::<HvPage>() == HV_PAGE_SIZE && align_of::<HvPage>() == HV_PAGE_SIZE);

/// One page of guest memory, known by the address the guest uses and by the one the hypervisor uses.
///
/// It is the caller's proof that the two belong together; see [`MappedPage::new`].
#[derive(Debug)]
pub struct MappedPage {
    address: NonNull<u8>,
    gpa: Gpa,
}

// SAFETY: the page is owned by this value (contract of `new`), and any processor may reach it.
unsafe impl Send for MappedPage {}

impl MappedPage {
    /// A page at virtual `address` that the hypervisor knows as `gpa`; `None` if either is not page-aligned.
    ///
    /// # Safety
    ///
    /// `address` is valid for reads and writes of [`HV_PAGE_SIZE`] bytes and maps `gpa`, for as long as the
    /// value (or what it is given to) exists; nothing else reads or writes the page meanwhile.
    pub unsafe fn new(address: NonNull<u8>, gpa: Gpa) -> Option<Self> {
        let aligned = address.addr().get().is_multiple_of(HV_PAGE_SIZE) && gpa.is_page_aligned();
        // The hypervisor reaches the page by a number, so the pointer's provenance is made public.
        address.as_ptr().expose_provenance();
        aligned.then_some(Self { address, gpa })
    }

    /// Where the guest sees the page.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Where the hypervisor sees the page.
    pub fn gpa(&self) -> Gpa {
        self.gpa
    }

    /// Copies `bytes` into the page at `offset`; `None`, with nothing written, if they don't fit.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        if end > HV_PAGE_SIZE {
            return None;
        }
        // SAFETY: offset <= end <= HV_PAGE_SIZE, so the pointer stays in the page.
        let target = unsafe { self.address.add(offset) };
        // SAFETY: the range lies in the page, which `new`'s caller vouched for and nobody else uses.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Some(())
    }

    /// Copies bytes at `offset` of the page to `bytes`; `None`, with nothing read, if they don't lie in it.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        if end > HV_PAGE_SIZE {
            return None;
        }
        // SAFETY: offset <= end <= HV_PAGE_SIZE, so the pointer stays in the page.
        let source = unsafe { self.address.add(offset) };
        // SAFETY: the range lies in the page, which `new`'s caller vouched for and nobody else uses.
        unsafe { source.copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len()) };
        Some(())
    }
}
