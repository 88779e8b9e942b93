//! A disk that fails as it is told, around any other; for tests.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::buffer::IoBuffer;
use super::disk::{ByteRange, Disk, DiskError, DiskInfo};
use crate::stats::lock;

/// What a request does to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes, discards and zeros.
    Write,
    /// Flushes.
    Flush,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The request fails at once.
    Fails(DiskError),
    /// The first half is moved, then the request fails as short.
    Short,
    /// The request takes this much longer.
    Slow(Duration),
    /// The request does not end before [`FaultyDisk::release`].
    Never,
}

/// Which requests go wrong, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Requests of this kind.
    pub kind: Kind,
    /// That touch these bytes; flushes touch all.
    pub range: ByteRange,
    /// How often.
    pub times: u32,
    /// How.
    pub trouble: Trouble,
}

/// The disk.
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Mutex<Vec<Fault>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl FaultyDisk {
    /// Fails in nothing so far.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        let (faults, released) = (Mutex::default(), Mutex::default());
        Self { inner, faults, released, release: Condvar::new() }
    }

    /// Adds a fault. The oldest that fits a request is taken.
    pub fn add(&self, fault: Fault) {
        lock(&self.faults).push(fault);
    }

    /// Every request of that kind fails so from now on.
    pub fn always(&self, kind: Kind, trouble: Trouble) {
        self.add(Fault { kind, range: ByteRange::new(0, u64::MAX), times: u32::MAX, trouble });
    }

    /// Forgets all faults.
    pub fn heal(&self) {
        lock(&self.faults).clear();
    }

    /// Lets those go on that would never end, now and later.
    pub fn release(&self) {
        *lock(&self.released) = true;
        self.release.notify_all();
    }

    fn take(&self, kind: Kind, range: ByteRange) -> Option<Trouble> {
        let mut faults = lock(&self.faults);
        let fault = faults.iter_mut().find(|fault| {
            let touches = fault.range.offset < range.end() && range.offset < fault.range.end();
            fault.kind == kind && fault.times > 0 && (touches || kind == Kind::Flush)
        })?;
        fault.times -= 1;
        Some(fault.trouble)
    }

    fn run(
        &self,
        kind: Kind,
        range: ByteRange,
        all: impl FnOnce() -> Result<(), DiskError>,
        half: impl FnOnce() -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        match self.take(kind, range) {
            None => all(),
            Some(Trouble::Fails(error)) => Err(error),
            Some(Trouble::Short) => half().and(Err(DiskError::Short)),
            Some(Trouble::Slow(time)) => {
                std::thread::sleep(time);
                all()
            }
            Some(Trouble::Never) => {
                let released = lock(&self.released);
                let wait = self.release.wait_while(released, |released| !*released);
                drop(wait.unwrap_or_else(PoisonError::into_inner));
                all()
            }
        }
    }
}

/// A copy of the first half of a buffer.
fn half(buffer: &IoBuffer) -> IoBuffer {
    let mut bytes = vec![0; buffer.len() as usize / 2];
    buffer.read(0, &mut bytes);
    IoBuffer::owned(bytes)
}

impl Disk for FaultyDisk {
    fn info(&self) -> DiskInfo {
        self.inner.info()
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        let range = ByteRange::new(offset, buffer.len());
        self.run(
            Kind::Read,
            range,
            || self.inner.read(offset, buffer),
            || {
                let part = half(buffer);
                self.inner.read(offset, &part)?;
                buffer.write(0, &part.to_vec());
                Ok(())
            },
        )
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        let range = ByteRange::new(offset, buffer.len());
        let all = || self.inner.write(offset, buffer);
        self.run(Kind::Write, range, all, || self.inner.write(offset, &half(buffer)))
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.run(Kind::Flush, ByteRange::new(0, 0), || self.inner.flush(), || Ok(()))
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.run(Kind::Write, range, || self.inner.discard(range), || Ok(()))
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.run(Kind::Write, range, || self.inner.zero(range), || Ok(()))
    }

    fn refresh(&self) -> Result<DiskInfo, DiskError> {
        self.inner.refresh()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::*;

    fn disk() -> (Arc<MemoryDisk>, FaultyDisk) {
        let inner = Arc::new(MemoryDisk::new(vec![5; 4096]));
        (inner.clone(), FaultyDisk::new(inner))
    }

    #[test]
    fn faults_hit_what_they_are_for() {
        let (_, disk) = disk();
        let buffer = IoBuffer::owned(vec![1; 512]);
        let trouble = Trouble::Fails(DiskError::Os(libc::EIO));
        let range = ByteRange::new(1024, 1);
        disk.add(Fault { kind: Kind::Read, range, times: 2, trouble });
        assert_eq!(disk.read(512, &buffer), Ok(()));
        assert_eq!(disk.write(1024, &buffer), Ok(()));
        assert_eq!(disk.read(1024, &buffer), Err(DiskError::Os(libc::EIO)));
        assert_eq!(disk.read(600, &buffer), Err(DiskError::Os(libc::EIO)));
        assert_eq!(disk.read(1024, &buffer), Ok(()));
    }

    #[test]
    fn a_short_write_leaves_its_half() {
        let (inner, disk) = disk();
        disk.always(Kind::Write, Trouble::Short);
        assert_eq!(disk.write(0, &IoBuffer::owned(vec![1; 512])), Err(DiskError::Short));
        assert_eq!((inner.content()[255], inner.content()[256]), (1, 5));
        disk.heal();
        assert_eq!(disk.write(0, &IoBuffer::owned(vec![2; 512])), Ok(()));
    }

    #[test]
    fn never_ends_when_it_is_released() {
        let (_, disk) = disk();
        disk.always(Kind::Flush, Trouble::Never);
        let disk = Arc::new(disk);
        let other = disk.clone();
        let waiting = std::thread::spawn(move || other.flush());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        disk.release();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }
}
