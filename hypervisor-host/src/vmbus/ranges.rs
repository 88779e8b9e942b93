//! Ranges of guest memory, checked once: bytes that lie in pages anywhere, seen as one run.

use thiserror::Error;
use vm_memory::bitmap::BS;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};
use vmbus_ring::gpa::{ParsedRange, Piece};
use vmbus_ring::{Packet, PacketError};

/// Ranges that can't be used, or bytes that are not in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RangesError {
    /// A page is not RAM.
    #[error("page {0:#x} is not RAM")]
    NotRam(u64),
    /// The packet has no ranges that can be read.
    #[error("the packet has no valid ranges: {0}")]
    Packet(PacketError),
    /// Bytes behind the end are asked for.
    #[error("{length} bytes at {offset} of {total} are asked for")]
    Outside {
        /// Where they begin.
        offset: u64,
        /// How many.
        length: u64,
        /// How many there are.
        total: u64,
    },
}

/// Bytes in guest memory, in the order in which page numbers name them. Every page is RAM, which a machine never loses; what is
/// in it may change at any time.
#[derive(Debug, Clone)]
pub struct GuestRanges {
    memory: GuestMemoryMmap,
    runs: Vec<Run>,
    total: u64,
}

/// Bytes without a gap, in one region of RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Where in the ranges.
    offset: u64,
    address: u64,
    length: u64,
}

/// A piece of guest memory.
pub type GuestSlice<'a> = VolatileSlice<'a, BS<'a, ()>>;

impl GuestRanges {
    /// No bytes.
    pub fn empty(memory: &GuestMemoryMmap) -> Self {
        Self { memory: memory.clone(), runs: Vec::new(), total: 0 }
    }

    /// All ranges of a packet, one after the other.
    ///
    /// # Errors
    /// The packet has none, they make no sense, or a page is not RAM.
    pub fn of_packet(memory: &GuestMemoryMmap, packet: &Packet<'_>) -> Result<Self, RangesError> {
        let mut ranges = Self::empty(memory);
        for range in packet.gpa_ranges().map_err(RangesError::Packet)? {
            ranges.push(range)?;
        }
        Ok(ranges)
    }

    /// One range.
    ///
    /// # Errors
    /// A page is not RAM.
    pub fn of_range(memory: &GuestMemoryMmap, range: ParsedRange<'_>) -> Result<Self, RangesError> {
        let mut ranges = Self::empty(memory);
        ranges.push(range)?;
        Ok(ranges)
    }

    /// Appends a range.
    ///
    /// # Errors
    /// A page is not RAM; what came before it is appended.
    pub fn push(&mut self, range: ParsedRange<'_>) -> Result<(), RangesError> {
        range.pieces().try_for_each(|piece| self.push_piece(piece))
    }

    fn push_piece(&mut self, piece: Piece) -> Result<(), RangesError> {
        let (address, length) = (piece.address(), u64::from(piece.length));
        if let Some(run) = self.runs.last_mut()
            && run.address + run.length == address
            // What crosses from one region of RAM into another is two runs.
            && is_ram(&self.memory, run.address, run.length + length)
        {
            run.length += length;
        } else if is_ram(&self.memory, address, length) {
            self.runs.push(Run { offset: self.total, address, length });
        } else {
            return Err(RangesError::NotRam(piece.page));
        }
        self.total += length;
        Ok(())
    }

    /// Bytes there are.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Copies guest memory, from `offset` on, into `bytes`.
    ///
    /// # Errors
    /// That many bytes are not there.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), RangesError> {
        let mut done = 0;
        for slice in self.slices(offset, bytes.len() as u64)? {
            let end = done + slice.len();
            if let Some(part) = bytes.get_mut(done..end) {
                slice.copy_to(part);
            }
            done = end;
        }
        Ok(())
    }

    /// Copies `bytes` to guest memory, from `offset` on.
    ///
    /// # Errors
    /// That many bytes are not there.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), RangesError> {
        let mut done = 0;
        for slice in self.slices(offset, bytes.len() as u64)? {
            let end = done + slice.len();
            if let Some(part) = bytes.get(done..end) {
                slice.copy_from(part);
            }
            done = end;
        }
        Ok(())
    }

    /// The pieces of guest memory that `length` bytes from `offset` on lie in.
    ///
    /// # Errors
    /// That many bytes are not there.
    pub fn slices(
        &self,
        offset: u64,
        length: u64,
    ) -> Result<impl Iterator<Item = GuestSlice<'_>>, RangesError> {
        let outside = RangesError::Outside { offset, length, total: self.total };
        let end = offset.checked_add(length).ok_or(outside)?;
        if end > self.total {
            return Err(outside);
        }
        let first = self.runs.partition_point(|run| run.offset + run.length <= offset);
        let runs = self.runs.get(first..).unwrap_or_default().iter();
        let pieces = runs.take_while(move |run| run.offset < end).map(move |run| {
            let (begin, behind) = (run.offset.max(offset), (run.offset + run.length).min(end));
            (run.address + (begin - run.offset), behind - begin)
        });
        // They were found when the run was made, and RAM stays.
        Ok(pieces.filter_map(|(address, length)| {
            self.memory.get_slice(GuestAddress(address), length as usize).ok()
        }))
    }

    /// The same for `readv` and its like. They are good for as long as these ranges (or another copy of the memory's handle) live.
    ///
    /// # Errors
    /// That many bytes are not there.
    pub fn iovecs(&self, offset: u64, length: u64) -> Result<Vec<libc::iovec>, RangesError> {
        let slices = self.slices(offset, length)?;
        Ok(slices
            .map(|slice| libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            })
            .collect())
    }
}

fn is_ram(memory: &GuestMemoryMmap, address: u64, length: u64) -> bool {
    memory.get_slice(GuestAddress(address), length as usize).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use vm_memory::Bytes;
    use vmbus_ring::GpaRange;
    use vmbus_ring::gpa::{GpaRanges, encode};

    use super::*;

    /// Two regions that follow one another, and a hole behind.
    fn memory() -> GuestMemoryMmap {
        let ram = [(GuestAddress(0), 0x4000), (GuestAddress(0x4000), 0x4000)];
        GuestMemoryMmap::from_ranges(&ram).unwrap()
    }

    fn ranges(
        memory: &GuestMemoryMmap,
        byte_count: u32,
        byte_offset: u32,
        pages: &[u64],
    ) -> Result<GuestRanges, RangesError> {
        let mut list = vec![0; 8 + pages.len() * 8];
        let range = GpaRange { byte_count, byte_offset, pages };
        encode(&[range], &mut list).unwrap();
        let range = GpaRanges::parse(1, &list).unwrap().iter().next().unwrap();
        GuestRanges::of_range(memory, range)
    }

    #[test]
    fn what_crosses_regions_is_reached_in_pieces() {
        let memory = memory();
        let whole = ranges(&memory, 0x8000, 0, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(whole.iovecs(0, 0x8000).unwrap().len(), 2, "pages in a row are one piece");
        whole.write(0x3FFE, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.read_obj::<[u8; 2]>(GuestAddress(0x4000)).unwrap(), [3, 4]);
        let mut back = [0; 6];
        whole.read(0x3FFD, &mut back).unwrap();
        assert_eq!(back, [0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn pages_that_are_not_ram_are_refused() {
        let memory = memory();
        for page in [8, 1 << 40, u64::MAX >> 12] {
            assert_eq!(ranges(&memory, 16, 0, &[page]).unwrap_err(), RangesError::NotRam(page));
        }
    }

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let few = ranges(&memory(), 100, 4090, &[0, 7]).unwrap();
        assert_eq!(few.len(), 100);
        for (offset, length) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
            let outside = RangesError::Outside { offset, length, total: 100 };
            assert_eq!(few.slices(offset, length).err(), Some(outside));
        }
        assert!(few.read(100, &mut []).is_ok());
    }

    proptest! {
        #[test]
        fn bytes_are_where_a_simple_model_has_them(
            pages in vec(0_u64..8, 1..6), offset in 0_u32..4096, from in 0_usize..5000, length in 0_usize..5000
        ) {
            let memory = memory();
            let content: Vec<u8> = (0..0x8000_u32).map(|at| (at % 251) as u8).collect();
            memory.write_slice(&content, GuestAddress(0)).unwrap();
            let byte_count = pages.len() as u32 * 4096 - offset;
            let some = ranges(&memory, byte_count, offset, &pages).unwrap();
            let model: Vec<u8> = pages
                .iter()
                .flat_map(|&page| &content[page as usize * 4096..][..4096])
                .skip(offset as usize)
                .copied()
                .collect();
            let mut bytes = vec![0; length];
            match some.read(from as u64, &mut bytes) {
                Ok(()) => prop_assert_eq!(&bytes, &model[from..from + length]),
                Err(_) => prop_assert!(from + length > model.len()),
            }
            let iovecs = some.iovecs(0, some.len()).unwrap();
            prop_assert_eq!(iovecs.iter().map(|part| part.iov_len).sum::<usize>(), model.len());
        }
    }
}
