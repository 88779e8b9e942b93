//! What is asked of a disk, and doing it the blocking way.

use super::buffer::IoBuffer;
use super::disk::{ByteRange, Direction, Disk, DiskError, check_range};

/// Bytes compared, checked or filled at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// A request, but for its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// Into the buffer.
    Read(ByteRange),
    /// From the buffer.
    Write {
        /// Where to.
        range: ByteRange,
        /// Only a write that is safe is done.
        through: bool,
    },
    /// What was acknowledged before is to be safe.
    Flush,
    /// Space is given back.
    Discard(Vec<ByteRange>),
    /// Zeros.
    Zero(ByteRange),
    /// The pattern again and again; the range is a multiple of it.
    Fill {
        /// Where to.
        range: ByteRange,
        /// What.
        pattern: Vec<u8>,
    },
    /// It can be read.
    Verify(ByteRange),
    /// It is the same as the buffer's content.
    Compare(ByteRange),
}

impl DiskOp {
    /// Does it, and waits for that.
    ///
    /// # Errors
    /// The disk's; [`DiskError::Outside`] for ranges that are not on the disk.
    pub fn execute(&self, disk: &dyn Disk, buffer: &IoBuffer) -> Result<(), DiskError> {
        let bytes = disk.info().bytes;
        match self {
            Self::Read(range) => {
                check_range(*range, bytes)?;
                disk.read(range.offset, buffer)
            }
            Self::Write { range, through } => {
                check_range(*range, bytes)?;
                match through {
                    true => disk.write_through(range.offset, buffer),
                    false => disk.write(range.offset, buffer),
                }
            }
            Self::Flush => disk.flush(),
            Self::Discard(ranges) => ranges.iter().try_for_each(|&range| {
                check_range(range, bytes)?;
                disk.discard(range)
            }),
            Self::Zero(range) => {
                check_range(*range, bytes)?;
                disk.zero(*range)
            }
            Self::Fill { range, pattern } => fill(disk, *range, pattern),
            Self::Verify(range) => {
                check_range(*range, bytes)?;
                each_piece(*range, |piece| {
                    disk.read(piece.offset, &IoBuffer::owned(vec![0; piece.length as usize]))
                })
            }
            Self::Compare(range) => compare(disk, *range, buffer),
        }
    }

    /// Its bytes and their way, if it does nothing but move the buffer's.
    pub fn transfer(&self) -> Option<(Direction, ByteRange)> {
        match self {
            Self::Read(range) => Some((Direction::Read, *range)),
            Self::Write { range, through: false } => Some((Direction::Write, *range)),
            _ => None,
        }
    }
}

fn each_piece(
    range: ByteRange,
    mut f: impl FnMut(ByteRange) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut offset = range.offset;
    while offset < range.end() {
        let length = PIECE_BYTES.min(range.end() - offset);
        f(ByteRange::new(offset, length))?;
        offset += length;
    }
    Ok(())
}

fn fill(disk: &dyn Disk, range: ByteRange, pattern: &[u8]) -> Result<(), DiskError> {
    check_range(range, disk.info().bytes)?;
    let pattern_bytes = pattern.len() as u64;
    if pattern_bytes == 0 || !PIECE_BYTES.is_multiple_of(pattern_bytes) {
        return Err(DiskError::Unsupported);
    }
    each_piece(range, |piece| {
        let content = pattern.iter().copied().cycle().take(piece.length as usize).collect();
        disk.write(piece.offset, &IoBuffer::owned(content))
    })
}

fn compare(disk: &dyn Disk, range: ByteRange, buffer: &IoBuffer) -> Result<(), DiskError> {
    check_range(range, disk.info().bytes)?;
    each_piece(range, |piece| {
        let at = piece.offset - range.offset;
        let present = IoBuffer::owned(vec![0; piece.length as usize]);
        disk.read(piece.offset, &present)?;
        let mut expected = vec![0; piece.length as usize];
        buffer.read(at, &mut expected);
        let present = present.to_vec();
        match present.iter().zip(&expected).position(|(one, other)| one != other) {
            None => Ok(()),
            Some(index) => Err(DiskError::Miscompare(at + index as u64)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn disk() -> MemoryDisk {
        MemoryDisk::new((0..SIZE).map(|at| (at / 512) as u8).collect())
    }

    #[test]
    fn a_difference_is_found_where_it_is() {
        let disk = disk();
        let range = ByteRange::new(512, SIZE - 512);
        let mut expected = disk.content()[512..].to_vec();
        let compare =
            |bytes: &[u8]| DiskOp::Compare(range).execute(&disk, &IoBuffer::owned(bytes.to_vec()));
        assert_eq!(compare(&expected), Ok(()));
        expected[700_000] ^= 1;
        assert_eq!(compare(&expected), Err(DiskError::Miscompare(700_000)));
    }

    #[test]
    fn a_pattern_fills_its_range_only() {
        let disk = disk();
        let pattern: Vec<u8> = (0..512).map(|it| it as u8).collect();
        let range = ByteRange::new(1024, 600 << 10);
        let fill = DiskOp::Fill { range, pattern: pattern.clone() };
        assert_eq!(fill.execute(&disk, &IoBuffer::none()), Ok(()));
        let content = disk.content();
        assert!(content[1024..range.end() as usize].chunks(512).all(|sector| sector == pattern));
        assert_eq!((content[1023], content[range.end() as usize]), (1, ((600 << 1) + 2) as u8));
    }

    #[test]
    fn ranges_outside_are_refused_by_all() {
        let (disk, outside) = (disk(), ByteRange::new(SIZE - 512, 1024));
        let wraps = ByteRange::new(u64::MAX - 511, 1024);
        for range in [outside, wraps] {
            for op in [
                DiskOp::Read(range),
                DiskOp::Write { range, through: false },
                DiskOp::Write { range, through: true },
                DiskOp::Discard(vec![range]),
                DiskOp::Zero(range),
                DiskOp::Fill { range, pattern: vec![1; 512] },
                DiskOp::Verify(range),
                DiskOp::Compare(range),
            ] {
                let result = op.execute(&disk, &IoBuffer::owned(vec![0; 1024]));
                assert_eq!(result, Err(DiskError::Outside), "{op:?}");
            }
        }
    }
}
