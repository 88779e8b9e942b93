//! Writes cpio archives in the "newc" format, which is what the Linux kernel unpacks as initramfs.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. Thirteen fields of eight
//! hexadecimal digits after the magic number, then the name and the data, each padded to 4 bytes.

use std::collections::BTreeSet;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows in memory. Missing parent directories are added by themselves.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds a file with these permissions; `path` is relative to the root.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) {
        self.parents(path);
        self.entry(path, FILE | (permissions & 0o7777), data, (0, 0));
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// Adds a directory unless it is there.
    pub fn directory(&mut self, path: &str) {
        self.parents(path);
        let path = path.trim_matches('/');
        if !path.is_empty() && self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, &[], (0, 0));
        }
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], (major, minor));
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..at) {
                self.directory(parent);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        let path = path.trim_start_matches('/');
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // Files of 4 GiB don't fit the format, nor any lab.
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
        // namesize, check
        let fields =
            [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Written out from the format's description; `cpio -o -H newc -R 0:0` differs in inode and device only.
    #[test]
    fn a_small_file_gives_the_known_bytes() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hi");
        let expected = [
            &b"070701"[..],
            b"00000001000081a4000000000000000000000001000000000000000200000000",
            b"0000000000000000000000000000000200000000a\0",
            b"hi\0\0",
            b"070701",
            b"0000000200000000000000000000000000000001000000000000000000000000",
            b"0000000000000000000000000000000b00000000TRAILER!!!\0\0\0\0",
        ]
        .concat();
        assert_eq!(archive.finish(), expected);
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("/init", 0o755, b"#!/bin/sh\n");
        archive.file("lib/modules/kvm.ko", 0o644, &[7; 4097]);
        archive.file("lib/modules/kvm-amd.ko", 0o600, &[]);
        archive.symlink("bin/sh", "busybox");
        archive.directory("proc");
        archive.directory("/proc/");
        archive.character_device("dev/console", 5, 1);
        archive.finish()
    }

    /// What the `cpio` program says about an archive, or none where it is not installed.
    fn foreign_cpio(arguments: &[&str], archive: &[u8]) -> Option<String> {
        let spawned = Command::new("cpio")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.ok()?;
        child.stdin.take().unwrap().write_all(archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_cpio_program_lists_every_entry_once_parents_first() {
        let Some(listing) = foreign_cpio(&["-t"], &sample()) else { return };
        let names: Vec<&str> = listing.lines().collect();
        let expected = [
            "init",
            "lib",
            "lib/modules",
            "lib/modules/kvm.ko",
            "lib/modules/kvm-amd.ko",
            "bin",
            "bin/sh",
            "proc",
            "dev",
            "dev/console",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_cpio_program_sees_modes_links_and_devices() {
        let Some(listing) = foreign_cpio(&["-t", "-v", "--numeric-uid-gid"], &sample()) else {
            return;
        };
        let line = |name: &str| listing.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("init").starts_with("-rwxr-xr-x"));
        assert!(line("kvm-amd.ko").starts_with("-rw-------"));
        assert!(line("bin/sh").ends_with("bin/sh -> busybox"));
        assert!(line("dev/console").starts_with("crw-------"));
        assert!(line("dev/console").contains("5,   1"));
        assert!(line("kvm.ko").contains("4097"));
    }
}
