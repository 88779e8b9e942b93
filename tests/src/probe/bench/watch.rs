//! Counts beside a QEMU when its guest makes a mark: KVM's counters of its machine, as debugfs shows them (Linux,
//! `virt/kvm/kvm_main.c`, `kvm_create_vm_debugfs`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Prints a line of JSON for each byte that comes, until the other side closes: the counters under `folder` of the machine that the process
/// `monitor` has made, or of all machines if it has none of its own there.
///
/// # Errors
///
/// The bytes or the counters can't be read.
pub fn marks(fifo: &Path, folder: &Path, monitor: u32) -> Result<()> {
    let mut fifo = File::open(fifo).with_context(|| format!("cannot open {}", fifo.display()))?;
    let mut byte = [0];
    while fifo.read(&mut byte)? == 1 {
        let kvm = counters(&machine(folder, monitor))?;
        println!("{}", serde_json::json!({ "mark": byte[0], "kvm": kvm }));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The folder of a machine, which is called by its maker's number and descriptor.
fn machine(folder: &Path, monitor: u32) -> PathBuf {
    let prefix = format!("{monitor}-");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|it| it.starts_with(&prefix))
    });
    own.unwrap_or_else(|| folder.to_owned())
}

/// All files with a number in them.
fn counters(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("no counters in {}", folder.display()))?;
    let number = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let value = fs::read_to_string(entry.path()).ok()?.trim().parse().ok()?;
        Some((entry.file_name().into_string().ok()?, value))
    };
    Ok(entries.filter_map(number).filter(|(_, value)| *value != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counters_and_all_else_is_not() {
        let folder = std::env::temp_dir().join(format!("enl-watch-{}", std::process::id()));
        fs::create_dir_all(folder.join("vcpu0")).unwrap();
        for (name, text) in [("exits", "12\n"), ("mmio_exits", "0\n"), ("vm-name", "x\n")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let found = counters(&folder).unwrap();
        fs::create_dir_all(folder.join("77-12")).unwrap();
        let (own, all) = (machine(&folder, 77), machine(&folder, 7));
        assert_eq!((own, all), (folder.join("77-12"), folder.clone()));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, BTreeMap::from([("exits".into(), 12)]));
        assert!(counters(&folder).is_err());
    }
}
