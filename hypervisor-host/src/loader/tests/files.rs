//! Files: what can't be opened, and what changes under us.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A file in the system's folder for temporary files, removed at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("enlighten-loader-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn open(&self, role: Role) -> Result<Source<'static>, LoadError> {
        Source::open(role, &self.0)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn open_problem(path: &Path) -> Problem {
    Source::open(Role::Kernel, path).expect_err("it can't be opened").problem
}

#[test]
fn a_missing_file_is_named() {
    let error = Source::open(Role::Initrd, Path::new("/nonexistent/initrd")).unwrap_err();
    assert_eq!(error.problem, Problem::NotFound);
    let text = error.to_string();
    assert!(text.starts_with("cannot load the initrd '/nonexistent/initrd': no such file;"));
    let file = TempFile::new(b"x");
    assert_eq!(open_problem(&file.0.join("below-a-file")), Problem::NotFound);
}

#[test]
fn directories_devices_and_empty_files_are_refused() {
    assert_eq!(open_problem(&std::env::temp_dir()), Problem::IsDirectory);
    assert_eq!(open_problem(Path::new("/dev/zero")), Problem::NotRegular);
    assert_eq!(open_problem(&TempFile::new(b"").0), Problem::Empty);
}

#[test]
fn a_path_too_long_is_unreadable() {
    let long = "x".repeat(5000);
    assert_eq!(open_problem(Path::new(&long)), Problem::Unreadable(ErrorKind::InvalidFilename));
}

#[test]
fn a_file_is_loaded_as_its_bytes_are() {
    let kernel_file = TempFile::new(&ELF);
    let initrd_content: Vec<u8> = (0..100_000u32).map(|byte| byte as u8).collect();
    let initrd_file = TempFile::new(&initrd_content);
    let image = inspect(kernel_file.open(Role::Kernel).unwrap()).unwrap();
    let disk = initrd_file.open(Role::Initrd).unwrap();
    let from_files = ram(2 * MIB);
    load(&from_files, &image, Some(&disk), "x", RSDP, BootProtocolChoice::Auto).unwrap();

    let image = inspect(kernel(&ELF)).unwrap();
    let disk = initrd(&initrd_content);
    let from_bytes = ram(2 * MIB);
    load(&from_bytes, &image, Some(&disk), "x", RSDP, BootProtocolChoice::Auto).unwrap();
    let all = |memory| {
        let mut bytes = vec![0; 2 << 20];
        GuestMemoryMmap::read_slice(memory, &mut bytes, GuestAddress(0)).unwrap();
        bytes
    };
    assert!(all(&from_files) == all(&from_bytes));
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
    let file = TempFile::new(&ELF);
    let opened = file.open(Role::Kernel).unwrap();
    truncate(&file, 10);
    assert_eq!(inspect(opened).unwrap_err().problem, Problem::Shrunk);

    let file = TempFile::new(&ELF);
    let image = inspect(file.open(Role::Kernel).unwrap()).unwrap();
    truncate(&file, 0x108);
    let error = load(&ram(2 * MIB), &image, None, "", RSDP, BootProtocolChoice::Auto);
    assert_eq!(error.unwrap_err().problem, Problem::Shrunk);

    let image = inspect(kernel(&ELF)).unwrap();
    let file = TempFile::new(&[1; 10_000]);
    let disk = file.open(Role::Initrd).unwrap();
    truncate(&file, 9_999);
    let error = load(&ram(2 * MIB), &image, Some(&disk), "", RSDP, BootProtocolChoice::Auto);
    let error = error.unwrap_err();
    assert_eq!((error.role, error.problem), (Role::Initrd, Problem::Shrunk));
}

fn truncate(file: &TempFile, bytes: u64) {
    File::options().write(true).open(&file.0).unwrap().set_len(bytes).unwrap();
}
