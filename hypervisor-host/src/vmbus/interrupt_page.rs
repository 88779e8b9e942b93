//! The interrupt page of guests before version 2.4: a bit for each channel, in one half for each direction.
//!
//! Linux 3.10, `drivers/hv/connection.c`: `vmbus_on_event` clears bits in the first half when event flag 0 of its source is set;
//! `vmbus_set_event` sets one in the second half before it signals the host.

use std::sync::atomic::{AtomicU32, Ordering};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::VMBUS_INTERRUPT_PAGE_CHANNELS;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};

/// Bytes of one direction's bits.
const DIRECTION_BYTES: usize = VMBUS_INTERRUPT_PAGE_CHANNELS as usize / 8;
/// Where the guest's bits for the host begin.
const TO_HOST: usize = HV_PAGE_SIZE / 2;
const WORD_BYTES: usize = size_of::<u32>();

/// A page in the guest's RAM.
pub(super) struct InterruptPage {
    memory: GuestMemoryMmap,
    address: GuestAddress,
}

impl InterruptPage {
    /// `None`: it is not RAM, or does not begin where a page does.
    pub(super) fn new(memory: &GuestMemoryMmap, address: u64) -> Option<Self> {
        let whole = address.is_multiple_of(HV_PAGE_SIZE as u64);
        let address = GuestAddress(address);
        (whole && memory.get_slice(address, HV_PAGE_SIZE).is_ok())
            .then(|| Self { memory: memory.clone(), address })
    }

    /// Sets a channel's bit. Tells whether that could be done.
    pub(super) fn signal_guest(&self, channel: u32) -> bool {
        if channel >= VMBUS_INTERRUPT_PAGE_CHANNELS {
            return false;
        }
        let word = channel as usize / u32::BITS as usize * WORD_BYTES;
        let bit = 1 << (channel % u32::BITS);
        self.with_word(word, |word| word.fetch_or(bit, Ordering::SeqCst)).is_some()
    }

    /// Clears the guest's bits for the host and tells which were set.
    pub(super) fn take_guest_signals(&self) -> Vec<u32> {
        let mut channels = Vec::new();
        for index in 0..DIRECTION_BYTES / WORD_BYTES {
            let set = self
                .with_word(TO_HOST + index * WORD_BYTES, |word| {
                    // The words of channels that are quiet stay in all processors' caches.
                    match word.load(Ordering::SeqCst) {
                        0 => 0,
                        _ => word.swap(0, Ordering::SeqCst),
                    }
                })
                .unwrap_or(0);
            let bits = (0..u32::BITS).filter(|bit| set & 1 << bit != 0);
            channels.extend(bits.map(|bit| index as u32 * u32::BITS + bit));
        }
        channels
    }

    fn with_word<T>(&self, offset: usize, action: impl FnOnce(&AtomicU32) -> T) -> Option<T> {
        let page = self.memory.get_slice(self.address, HV_PAGE_SIZE).ok()?;
        page.get_atomic_ref::<AtomicU32>(offset).ok().map(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x3000)]).unwrap()
    }

    #[test]
    fn each_direction_has_its_half() {
        let memory = memory();
        let page = InterruptPage::new(&memory, 0x1000).unwrap();
        assert!(page.signal_guest(33));
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1004)).unwrap(), 2);
        memory.write_obj(0x80_u8, GuestAddress(0x1800)).unwrap();
        memory.write_obj(0x80_u8, GuestAddress(0x181F)).unwrap();
        assert_eq!(page.take_guest_signals(), [7, 255]);
        assert!(page.take_guest_signals().is_empty());
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1004)).unwrap(), 2);
    }

    #[test]
    fn channels_beyond_the_page_have_no_bit() {
        let page = InterruptPage::new(&memory(), 0x1000).unwrap();
        assert!(page.signal_guest(255));
        assert!(!page.signal_guest(256) && !page.signal_guest(u32::MAX));
    }

    #[test]
    fn pages_that_are_none_are_refused() {
        for address in [0x1008, 0x3000, 0x2FFF, !0xFFF, u64::MAX] {
            assert!(InterruptPage::new(&memory(), address).is_none(), "{address:#x}");
        }
    }
}
