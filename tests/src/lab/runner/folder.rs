//! Where a batch in the lab keeps its files: a folder of its own, gone when it ends, and the kernel logs of
//! labs that were lost, which stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Files of one batch.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    logs: PathBuf,
    stem: String,
}

impl Folder {
    /// Makes the folder and writes the initial file system into it.
    pub(super) fn new(lab: &Path, initrd: &[u8]) -> Result<Self> {
        remove_orphans(lab);
        let stem = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self { path: lab.join(format!("run-{stem}")), logs: lab.join("logs"), stem };
        fs::create_dir_all(&folder.path)
            .with_context(|| format!("cannot make {}", folder.path.display()))?;
        let path = folder.initrd();
        fs::write(&path, initrd).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(folder)
    }

    /// The initial file system.
    pub(super) fn initrd(&self) -> PathBuf {
        self.path.join("initrd.cpio")
    }

    /// QEMU's own words.
    pub(super) fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    /// The lab's kernel log in its start with this number, while the batch runs.
    pub(super) fn console_log(&self, start: u32) -> PathBuf {
        self.path.join(format!("console-{start}.log"))
    }

    /// Keeps the kernel log of a lab that was lost; returns its lasting place.
    pub(super) fn keep_console_log(&self, start: u32) -> PathBuf {
        let kept = self.logs.join(format!("{}-{start}.log", self.stem));
        let moved = fs::create_dir_all(&self.logs)
            .and_then(|()| fs::rename(self.console_log(start), &kept));
        if moved.is_ok() { kept } else { self.console_log(start) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.path);
    }
}

/// Removes folders left by runners that were killed.
fn remove_orphans(lab: &Path) {
    for entry in fs::read_dir(lab).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix("run-").or(name.strip_prefix("native-")))
            .and_then(|rest| rest.split('-').next())
            .and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            let _best_effort = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_that_is_kept_outlives_the_batch() {
        let lab = std::env::temp_dir().join(format!("enl-folder-log-{}", std::process::id()));
        let folder = Folder::new(&lab, b"").unwrap();
        for start in 0..2 {
            fs::write(folder.console_log(start), start.to_string()).unwrap();
        }
        let kept = folder.keep_console_log(1);
        drop(folder);
        assert_eq!(fs::read(&kept).unwrap(), b"1");
        assert_eq!(fs::read_dir(kept.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(lab).unwrap();
    }

    #[test]
    fn a_folder_goes_with_its_batch_and_orphans_go_with_the_next_one() {
        let lab = std::env::temp_dir().join(format!("enl-folder-{}", std::process::id()));
        // Above the kernel's largest process number.
        let orphan = lab.join("run-4194305-0");
        fs::create_dir_all(&orphan).unwrap();
        fs::create_dir_all(lab.join("kernel")).unwrap();
        let folder = Folder::new(&lab, b"data").unwrap();
        let other = Folder::new(&lab, b"other").unwrap();
        assert_eq!(fs::read(folder.initrd()).unwrap(), b"data");
        assert!(!orphan.exists() && lab.join("kernel").exists());
        drop((folder, other));
        let left: Vec<_> = fs::read_dir(&lab).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["kernel"]);
        fs::remove_dir_all(lab).unwrap();
    }
}
