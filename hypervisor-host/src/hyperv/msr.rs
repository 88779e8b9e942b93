//! The two MSRs that decide over the hypercall page: guest OS identity and HYPERCALL (TLFS §2.6, §3.13).
//!
//! The page is an overlay in the specification: it hides the guest's page while it is enabled. Here it
//! is written into RAM, so the content underneath is kept and put back when the page moves or goes.
//! (What a guest writes to the page meanwhile is lost with it.)

use hv_abi::HV_PAGE_SIZE;
use hv_abi::msr::{HV_MSR_HYPERCALL_LOCKED, HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::GeneralProtection;
use super::hypercall_page::IDLE_BYTE_OFFSET;

type Page = [u8; HV_PAGE_SIZE];

/// The state of both MSRs and of the page.
pub struct HypercallMsrs {
    memory: GuestMemoryMmap,
    code: Page,
    guest_os_id: u64,
    hypercall: u64,
    overlay: Option<Overlay>,
    somebody_idles: bool,
}

struct Overlay {
    address: GuestAddress,
    hidden: Box<Page>,
}

impl HypercallMsrs {
    /// Both MSRs zero, as after reset. `code` is what an enabled page holds.
    pub fn new(memory: GuestMemoryMmap, code: Page) -> Self {
        Self { memory, code, guest_os_id: 0, hypercall: 0, overlay: None, somebody_idles: false }
    }

    /// The guest OS identity.
    pub fn guest_os_id(&self) -> u64 {
        self.guest_os_id
    }

    /// The HYPERCALL MSR.
    pub fn hypercall(&self) -> u64 {
        self.hypercall
    }

    /// Sets the guest OS identity. Zero disables the hypercall page.
    pub fn set_guest_os_id(&mut self, value: u64) {
        self.guest_os_id = value;
        if value == 0 {
            self.remove_overlay();
            self.hypercall &= !HV_MSR_PAGE_ENABLE;
        }
    }

    /// Writes the HYPERCALL MSR. Once locked it ignores writes; without an identity the page stays
    /// disabled; reserved bits are kept as written, as the specification asks of a guest.
    ///
    /// # Errors
    /// The page would lie outside RAM. The MSR then keeps its value, and the page its place.
    pub fn set_hypercall(&mut self, value: u64) -> Result<(), GeneralProtection> {
        if self.hypercall & HV_MSR_HYPERCALL_LOCKED != 0 {
            return Ok(());
        }
        let enable = value & HV_MSR_PAGE_ENABLE != 0 && self.guest_os_id != 0;
        let address = GuestAddress(value & HV_MSR_PAGE_ADDRESS_MASK);
        if enable {
            self.place_overlay(address)?;
        } else {
            self.remove_overlay();
        }
        self.hypercall = if enable { value } else { value & !HV_MSR_PAGE_ENABLE };
        Ok(())
    }

    /// Sets the byte in the page by which cluster IPIs come to the host, now and wherever the page goes.
    pub fn set_somebody_idles(&mut self, somebody_idles: bool) {
        self.somebody_idles = somebody_idles;
        self.write_idle_byte();
    }

    fn write_idle_byte(&self) {
        if let Some(Overlay { address, .. }) = &self.overlay {
            let byte = GuestAddress(address.0 | IDLE_BYTE_OFFSET);
            // The page was writable when it was placed, and RAM never goes away.
            let _ = self.memory.write_obj(u8::from(self.somebody_idles), byte);
        }
    }

    fn place_overlay(&mut self, address: GuestAddress) -> Result<(), GeneralProtection> {
        if self.overlay.as_ref().is_some_and(|overlay| overlay.address == address) {
            return Ok(());
        }
        let mut hidden = Box::new([0; HV_PAGE_SIZE]);
        self.memory.read_slice(&mut hidden[..], address).map_err(|_| GeneralProtection)?;
        self.remove_overlay();
        self.memory.write_slice(&self.code, address).map_err(|_| GeneralProtection)?;
        self.overlay = Some(Overlay { address, hidden });
        self.write_idle_byte();
        Ok(())
    }

    fn remove_overlay(&mut self) {
        if let Some(Overlay { address, hidden }) = self.overlay.take() {
            // It was readable and writable when the overlay was placed, and RAM never goes away.
            let _ = self.memory.write_slice(&hidden[..], address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM_BYTES: usize = 0x10_000;
    const CODE: Page = {
        let mut code = [0xC3; HV_PAGE_SIZE];
        code[IDLE_BYTE_OFFSET as usize] = 0;
        code
    };
    const ENABLE: u64 = HV_MSR_PAGE_ENABLE;
    const LOCKED: u64 = HV_MSR_HYPERCALL_LOCKED;

    fn msrs() -> HypercallMsrs {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_BYTES)]).unwrap();
        for page in 0..RAM_BYTES / HV_PAGE_SIZE {
            let address = GuestAddress((page * HV_PAGE_SIZE) as u64);
            memory.write_slice(&[page as u8; HV_PAGE_SIZE], address).unwrap();
        }
        let mut msrs = HypercallMsrs::new(memory, CODE);
        msrs.set_guest_os_id(1);
        msrs
    }

    fn page(msrs: &HypercallMsrs, address: u64) -> Page {
        let mut page = [0; HV_PAGE_SIZE];
        msrs.memory.read_slice(&mut page, GuestAddress(address)).unwrap();
        page
    }

    #[test]
    fn enabling_shows_the_code_and_disabling_what_was_there() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        assert_eq!(page(&msrs, 0x3000), CODE);
        assert_eq!(page(&msrs, 0x2000), [2; HV_PAGE_SIZE]);
        assert_eq!(page(&msrs, 0x4000), [4; HV_PAGE_SIZE]);
        msrs.set_hypercall(0x3000).unwrap();
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE]);
        assert_eq!(msrs.hypercall(), 0x3000);
    }

    #[test]
    fn a_moved_page_uncovers_its_old_place() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        msrs.set_hypercall(0x5000 | ENABLE).unwrap();
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE]);
        assert_eq!(page(&msrs, 0x5000), CODE);
    }

    #[test]
    fn enabling_twice_does_not_take_the_code_for_the_guests_page() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        msrs.set_hypercall(0).unwrap();
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE]);
    }

    #[test]
    fn without_an_identity_the_page_stays_disabled() {
        let mut msrs = msrs();
        msrs.set_guest_os_id(0);
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        assert_eq!(msrs.hypercall(), 0x3000);
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE]);
    }

    #[test]
    fn losing_the_identity_disables_the_page() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        msrs.set_guest_os_id(0);
        assert_eq!(msrs.hypercall(), 0x3000);
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE]);
    }

    #[test]
    fn a_locked_register_ignores_writes() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE | LOCKED).unwrap();
        msrs.set_hypercall(0).unwrap();
        assert_eq!(msrs.hypercall(), 0x3000 | ENABLE | LOCKED);
        assert_eq!(page(&msrs, 0x3000), CODE);
    }

    #[test]
    fn the_idle_byte_follows_the_page() {
        let mut msrs = msrs();
        msrs.set_somebody_idles(true);
        assert_eq!(page(&msrs, 0x3000), [3; HV_PAGE_SIZE], "there is no page yet");
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        assert_eq!(page(&msrs, 0x3000)[0xFF8], 1);
        msrs.set_hypercall(0x5000 | ENABLE).unwrap();
        assert_eq!((page(&msrs, 0x3000)[0xFF8], page(&msrs, 0x5000)[0xFF8]), (3, 1));
        msrs.set_somebody_idles(false);
        assert_eq!(page(&msrs, 0x5000), CODE);
    }

    #[test]
    fn a_page_outside_ram_is_a_fault_that_changes_nothing() {
        let mut msrs = msrs();
        msrs.set_hypercall(0x3000 | ENABLE).unwrap();
        for outside in [RAM_BYTES as u64, 0xFEE0_0000, !0xFFF] {
            assert_eq!(msrs.set_hypercall(outside | ENABLE), Err(GeneralProtection));
        }
        assert_eq!(msrs.hypercall(), 0x3000 | ENABLE);
        assert_eq!(page(&msrs, 0x3000), CODE);
    }
}
