//! A record of all frames of a back end, in both directions, for Wireshark and tcpdump.
//!
//! The format is the classic one (IETF, draft-ietf-opsawg-pcap, *PCAP Capture File Format*), in this computer's byte order,
//! with microseconds. Frames are recorded as they cross to the back end: with a TAP device, checksums may be missing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::backend::{Backend, Offloads, SendError};
use super::frame::{Frame, MAX_FRAME, Received};
use crate::process::tell;
use crate::stats::lock;

/// How long a record may be kept back.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// A back end that is recorded.
pub struct Captured {
    inner: Box<dyn Backend>,
    record: Mutex<Option<Record>>,
}

struct Record {
    file: BufWriter<File>,
    flushed: Instant,
}

impl Captured {
    /// Records what passes through `inner` from now on; an older file is overwritten.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn new(inner: Box<dyn Backend>, path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&file_header())?;
        file.flush()?;
        let record = Record { file, flushed: Instant::now() };
        Ok(Self { inner, record: Mutex::new(Some(record)) })
    }

    fn record(&self, frame: &[u8]) {
        let mut record = lock(&self.record);
        let failed = record.as_mut().and_then(|record| record.add(frame).err());
        if let Some(error) = failed {
            *record = None;
            tell(&format_args!("the record of {} ends here: {error}", self.inner.describe()));
        }
    }
}

impl Record {
    fn add(&mut self, frame: &[u8]) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.file.write_all(&frame_header(now, frame.len() as u32))?;
        self.file.write_all(frame)?;
        if self.flushed.elapsed() >= FLUSH_AFTER {
            self.flushed = Instant::now();
            self.file.flush()?;
        }
        Ok(())
    }
}

fn file_header() -> [u8; 24] {
    const ETHERNET: u32 = 1;
    let mut header = [0; 24];
    header[..4].copy_from_slice(&0xA1B2_C3D4_u32.to_ne_bytes());
    header[4..6].copy_from_slice(&2_u16.to_ne_bytes());
    header[6..8].copy_from_slice(&4_u16.to_ne_bytes());
    header[16..20].copy_from_slice(&(MAX_FRAME as u32).to_ne_bytes());
    header[20..].copy_from_slice(&ETHERNET.to_ne_bytes());
    header
}

fn frame_header(time: Duration, length: u32) -> [u8; 16] {
    let mut header = [0; 16];
    let words = [time.as_secs() as u32, time.subsec_micros(), length, length];
    for (place, word) in header.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

impl Backend for Captured {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.inner.send(frame)?;
        self.record(frame.bytes);
        Ok(())
    }

    fn flush(&self) {
        self.inner.flush();
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.inner.readiness()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let received = self.inner.receive(buffer)?;
        if let Some(frame) = received.and_then(|received| buffer.get(..received.length)) {
            self.record(frame);
        }
        Ok(received)
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(mut record) = lock(&self.record).take()
            && let Err(error) = record.file.flush()
        {
            tell(&format_args!("the record of {} is not whole: {error}", self.inner.describe()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::pair;

    #[test]
    fn both_directions_are_recorded_byte_by_byte() {
        let path = std::env::temp_dir().join(format!("enlighten-{}.pcap", std::process::id()));
        let (card, peer) = pair(Offloads::empty()).unwrap();
        let captured = Captured::new(Box::new(card), &path).unwrap();
        captured.send(&Frame::complete(&[1; 60])).unwrap();
        peer.send(&[2; 70]).unwrap();
        captured.receive(&mut [0; 100]).unwrap();
        captured.receive(&mut [0; 100]).unwrap();
        drop(captured);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes[..8], [0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0]);
        assert_eq!(bytes[20..24], [1, 0, 0, 0]);
        assert_eq!(bytes[32..40], [60, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(bytes[40..100], [1; 60]);
        assert_eq!(bytes[108..116], [70, 0, 0, 0, 70, 0, 0, 0]);
        assert_eq!(bytes[116..], [2; 70]);
    }

    #[test]
    fn a_full_disk_ends_the_record_and_not_the_network() {
        let (card, peer) = pair(Offloads::empty()).unwrap();
        let Ok(captured) = Captured::new(Box::new(card), Path::new("/dev/full")) else { return };
        for _ in 0..1000 {
            if captured.send(&Frame::complete(&[1; 1000])).is_err() {
                break;
            }
        }
        assert_eq!(peer.receive(Duration::from_secs(1)), Some(vec![1; 1000]));
    }
}
