//! Puts the lab's initial file system together: agent, modules, busybox, and a batch's files.
//!
//! It is written uncompressed: the kernel copies it in no time, while unpacking a compressed one is slow
//! on an emulated processor.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::agent;
use super::cpio::Archive;
use super::job::BatchFile;
use super::parts::Parts;

/// Modules that the lab needs, with their parameters. What they depend on comes before them.
///
/// `vgif=0`: with the emulated virtual GIF, nested guests hang more often (measured: docs/lab.md).
const MODULES: [(&str, &str); 4] =
    [("virtio_pci", ""), ("virtio_console", ""), ("kvm-amd", "vgif=0"), ("tun", "")];

/// The initial file system for one start of the lab.
///
/// # Errors
/// If a part or a file of the batch cannot be read, or two of its files have one name.
pub fn build(parts: &Parts, agent: &Path, files: &[BatchFile]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["proc", "sys", "dev", "tmp", "root"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, &read(agent)?);
    add_busybox(&mut archive, &parts.busybox)?;
    add_modules(&mut archive, &parts.modules, &MODULES)?;
    add_files(&mut archive, files)?;
    Ok(archive.finish())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// busybox, and a link for each of its commands.
pub(super) fn add_busybox(archive: &mut Archive, busybox: &Path) -> Result<()> {
    archive.file("bin/busybox", 0o755, &read(busybox)?);
    let list = Command::new(busybox)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run {} --list", busybox.display()))?;
    for command in String::from_utf8_lossy(&list.stdout).lines() {
        if !command.is_empty() && command != "busybox" {
            archive.symlink(&format!("bin/{command}"), "busybox");
        }
    }
    Ok(())
}

/// Modules, all that they depend on, and the list by which the agent, or a guest's first program, loads them: a path and
/// parameters in each line.
pub(super) fn add_modules(
    archive: &mut Archive,
    folder: &Path,
    wanted: &[(&str, &str)],
) -> Result<()> {
    let mut order = Vec::new();
    let mut have = BTreeSet::new();
    for (name, _) in wanted {
        visit(folder, name, &mut have, &mut order)?;
    }
    let mut list = String::new();
    for (name, bytes) in order {
        let parameters =
            wanted.iter().find(|(wanted, _)| same(wanted, &name)).map_or("", |(_, p)| p);
        let path = format!("modules/{name}.ko");
        archive.file(&path, 0o644, &bytes);
        list.push_str(format!("/{path} {parameters}").trim_end());
        list.push('\n');
    }
    archive.file(agent::MODULE_LIST, 0o644, list.as_bytes());
    Ok(())
}

/// Adds a module after those it depends on.
fn visit(
    folder: &Path,
    name: &str,
    have: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if !have.insert(name.replace('-', "_")) {
        return Ok(());
    }
    let Some(path) = find_module(folder, name) else {
        // Built into this kernel, or missing; the agent's greeting tells which.
        return Ok(());
    };
    let bytes = read(&path)?;
    for dependency in dependencies(&bytes) {
        visit(folder, &dependency, have, order)?;
    }
    order.push((name.to_owned(), bytes));
    Ok(())
}

/// `-` and `_` are one in a module's name.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

fn find_module(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = find_module(&path, name) {
                return Some(found);
            }
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| same(stem, name))
        {
            return Some(path);
        }
    }
    None
}

/// What a module says it depends on: the `depends=` entry of its `.modinfo` section.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn add_files(archive: &mut Archive, files: &[BatchFile]) -> Result<()> {
    let root = agent::DIRECTORY.trim_start_matches('/');
    archive.directory(root);
    let mut names = BTreeSet::new();
    for BatchFile { from, to } in files {
        check_name(to)?;
        if !names.insert(to) {
            bail!("two files of the batch are named '{to}'. Give them different names.");
        }
        let bytes = read(from)?;
        let mode = fs::metadata(from).map_or(0o644, |metadata| metadata.permissions().mode());
        archive.file(&format!("{root}/{to}"), mode & 0o777, &bytes);
    }
    Ok(())
}

/// A batch's file must lie in the batch's directory.
pub(super) fn check_name(name: &str) -> Result<()> {
    let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !inside {
        bail!("'{name}' is no name for a batch's file. Use a relative path without '.' and '..'.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("enl-initramfs-{}-{name}", std::process::id()));
        let _leftover = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn modules_come_after_what_they_depend_on_once_each() {
        let folder = temporary("modules");
        let module = |path: &str, depends: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0")).unwrap();
        };
        module("kernel/kvm/kvm-amd.ko", "kvm,ccp");
        module("kernel/kvm/kvm.ko", "irqbypass");
        module("kernel/ccp.ko", "");
        module("kernel/lib/irqbypass.ko", "kvm");
        let mut archive = Archive::default();
        add_modules(&mut archive, &folder, &[("kvm_amd", "vgif=0"), ("absent", "")]).unwrap();
        let bytes = archive.finish();
        let expected =
            "/modules/irqbypass.ko\n/modules/kvm.ko\n/modules/ccp.ko\n/modules/kvm_amd.ko vgif=0\n";
        assert!(String::from_utf8_lossy(&bytes).contains(expected));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_module_without_the_entry_depends_on_nothing() {
        assert!(dependencies(b"").is_empty());
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert_eq!(dependencies(b"x\0depends=a,b"), ["a", "b"]);
    }

    #[test]
    fn a_name_outside_the_batch_is_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["a", "a/b.c", "..a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let folder = temporary("twice");
        let from = folder.join("x");
        fs::write(&from, "x").unwrap();
        let file = BatchFile { from, to: "same".into() };
        assert!(add_files(&mut Archive::default(), &[file.clone(), file]).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
