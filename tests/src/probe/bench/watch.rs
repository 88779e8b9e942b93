//! Counts beside a QEMU when its guest makes a mark: KVM's counters of all machines, as debugfs shows them (Linux,
//! `virt/kvm/kvm_main.c`, `kvm_init_debug`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Prints a line of JSON for each byte that comes, until the other side closes.
///
/// # Errors
///
/// The bytes or the counters can't be read.
pub fn marks(fifo: &Path, folder: &Path) -> Result<()> {
    let mut fifo = File::open(fifo).with_context(|| format!("cannot open {}", fifo.display()))?;
    let mut byte = [0];
    while fifo.read(&mut byte)? == 1 {
        let kvm = counters(folder)?;
        println!("{}", serde_json::json!({ "mark": byte[0], "kvm": kvm }));
        std::io::stdout().flush()?;
    }
    Ok(())
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
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, BTreeMap::from([("exits".into(), 12)]));
        assert!(counters(&folder).is_err());
    }
}
