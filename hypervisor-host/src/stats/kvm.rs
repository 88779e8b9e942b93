//! The kernel's own counters of a machine or a VP (`KVM_GET_STATS_FD`, Linux
//! Documentation/virt/kvm/api.rst, section 4.133).
//!
//! The descriptor names its counters itself, so the layout is read once, checked, and only the values
//! are read again.
#![expect(unsafe_code, reason = "kvm-ioctls has no wrapper for this ioctl")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::KVMIO;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl, ioctl_expr};

/// `_IO(KVMIO, 0xce)` of `linux/kvm.h`.
const KVM_GET_STATS_FD: libc::c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0xCE, 0);

/// Most counters that are believed to exist.
const MAX_COUNTERS: u32 = 1024;
const HEADER_BYTES: usize = 24;
const DESCRIPTOR_BYTES: usize = 16;

/// An open set of counters.
#[derive(Debug)]
pub struct KvmStats {
    file: File,
    /// Name and offset in the file of each scalar.
    counters: Vec<(String, u64)>,
}

impl KvmStats {
    /// Opens the counters of a machine or VP. `None` where the kernel has none (before 5.14).
    pub fn open(vm_or_vp: &impl AsRawFd) -> Option<Self> {
        // SAFETY: this ioctl takes no argument, and on any descriptor the worst it does is fail.
        let fd = unsafe { ioctl(vm_or_vp, KVM_GET_STATS_FD) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        let counters = read_layout(&file).ok()?;
        Some(Self { file, counters })
    }

    /// One counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        let (_, offset) = self.counters.iter().find(|(known, _)| known == name)?;
        self.value(*offset).ok()
    }

    /// All counters that are not zero.
    pub fn all(&self) -> BTreeMap<String, u64> {
        let mut map = BTreeMap::new();
        for (name, offset) in &self.counters {
            match self.value(*offset) {
                Ok(0) | Err(_) => {}
                Ok(value) => {
                    map.insert(name.clone(), value);
                }
            }
        }
        map
    }

    fn value(&self, offset: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// Reads header and descriptors: `struct kvm_stats_header` and `struct kvm_stats_desc`.
fn read_layout(file: &impl FileExt) -> io::Result<Vec<(String, u64)>> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let field = |index: usize| word(&header, index * 4);
    let (name_bytes, count) = (field(1) as usize, field(2));
    let (descriptors, data) = (u64::from(field(4)), u64::from(field(5)));
    if count > MAX_COUNTERS || !(1..=256).contains(&name_bytes) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut counters = Vec::new();
    let record_bytes = DESCRIPTOR_BYTES + name_bytes;
    let mut record = vec![0; record_bytes];
    for index in 0..u64::from(count) {
        file.read_exact_at(&mut record, descriptors + index * record_bytes as u64)?;
        // `size` is the number of values: more than one makes a histogram, which is left out.
        let values = u16::from_ne_bytes([record[6], record[7]]);
        if values == 1 {
            let name = record[DESCRIPTOR_BYTES..].split(|&byte| byte == 0).next().unwrap_or(&[]);
            let offset = data + u64::from(word(&record, 8));
            counters.push((String::from_utf8_lossy(name).into_owned(), offset));
        }
    }
    Ok(counters)
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in memory.
    struct Bytes(Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(offset as usize..).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Laid out by hand after the API document: header, id, two descriptors, data.
    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [0_u32, 8, 2, 24, 32, 80] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(*b"kvm-1\0\0\0");
        for (name, values, offset) in [(b"exits\0\0\0", 1_u16, 8_u32), (b"hist\0\0\0\0", 4, 16)] {
            bytes.extend(0_u32.to_ne_bytes());
            bytes.extend(0_i16.to_ne_bytes());
            bytes.extend(values.to_ne_bytes());
            bytes.extend(offset.to_ne_bytes());
            bytes.extend(0_u32.to_ne_bytes());
            bytes.extend(name);
        }
        assert_eq!(bytes.len(), 80);
        bytes.extend(0_u64.to_ne_bytes());
        bytes.extend(4711_u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn scalars_are_found_by_name_and_histograms_left_out() {
        let layout = read_layout(&Bytes(sample())).unwrap();
        assert_eq!(layout, [("exits".to_owned(), 88)]);
    }

    #[test]
    fn truncated_or_absurd_layouts_are_refused() {
        for length in 0..80 {
            assert!(read_layout(&Bytes(sample()[..length].to_vec())).is_err(), "{length}");
        }
        let mut absurd = sample();
        absurd[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(read_layout(&Bytes(absurd)).is_err());
        let mut nameless = sample();
        nameless[4..8].copy_from_slice(&0_u32.to_ne_bytes());
        assert!(read_layout(&Bytes(nameless)).is_err());
    }
}
