//! The guest's send buffer: sections of equal size, in which it puts messages for the host.

use std::sync::Arc;

use crate::vmbus::{Gpadl, GuestRanges};

/// Bytes of a section: what Hyper-V has (Linux, `NETVSC_SEND_SECTION_SIZE`).
pub(super) const SECTION_BYTES: u32 = 6144;

/// A send buffer that the guest lent.
pub(super) struct SendBuffer {
    /// The guest's number for it.
    pub(super) id: u16,
    ranges: GuestRanges,
    /// Keeps the memory lent.
    _gpadl: Option<Arc<Gpadl>>,
}

impl SendBuffer {
    /// `None`: it has not one section.
    pub(super) fn new(id: u16, ranges: GuestRanges, gpadl: Option<Arc<Gpadl>>) -> Option<Self> {
        let fits = ranges.len() >= u64::from(SECTION_BYTES);
        fits.then_some(Self { id, ranges, _gpadl: gpadl })
    }

    /// Copies what the guest put into a section to the end of `to`. `None`: there is no such section, or no such bytes in it.
    pub(super) fn read(&self, section: u32, bytes: u32, to: &mut Vec<u8>) -> Option<()> {
        let sections = self.ranges.len() / u64::from(SECTION_BYTES);
        if u64::from(section) >= sections || bytes > SECTION_BYTES {
            return None;
        }
        let from = to.len();
        to.resize(from + bytes as usize, 0);
        let offset = u64::from(section) * u64::from(SECTION_BYTES);
        self.ranges.read(offset, to.get_mut(from..)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_memory::{memory, ranges};
    use super::*;
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn sections_are_read_and_nothing_beside_them() {
        let memory = memory();
        let buffer = SendBuffer::new(0, ranges(&memory, 0x10_000, 0x4000), None).unwrap();
        memory.write_slice(&[1, 2, 3], GuestAddress(0x10_000 + 6144)).unwrap();
        let mut bytes = vec![9];
        assert_eq!(buffer.read(1, 3, &mut bytes), Some(()));
        assert_eq!(bytes, [9, 1, 2, 3]);
        assert_eq!(buffer.read(0, 6144, &mut bytes), Some(()));
        // 0x4000 bytes are two sections and a rest.
        for (section, length) in [(2, 1), (u32::MAX, 1), (0, 6145), (0, u32::MAX)] {
            assert_eq!(buffer.read(section, length, &mut bytes), None);
        }
        assert!(SendBuffer::new(0, ranges(&memory, 0x10_000, 0x1000), None).is_none());
    }
}
