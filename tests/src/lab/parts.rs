//! What the lab is made of: the parts that `tests/setup.sh` fetched, and the recipe they allow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Layout of the parts that this code reads; `RECIPE` in `tests/setup.sh`.
const RECIPE: &str = "4";
/// QEMU that emulates more than one processor well enough (measured: docs/lab.md).
const QEMU_FOR_SMP: u32 = 10;
/// More was never needed, and the machine running the lab has few.
const MAX_CPUS: u32 = 4;

/// The lab's parts, as absolute paths.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Folder of the parts and of the lab's logs.
    pub directory: PathBuf,
    /// The lab's kernel, a bzImage.
    pub kernel: PathBuf,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel_release: String,
    /// Folder of the kernel's modules.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// QEMU's program.
    pub qemu: PathBuf,
    /// QEMU's version.
    pub qemu_version: String,
    /// QEMU's data folders; none for a QEMU that is installed.
    pub qemu_data: Vec<PathBuf>,
    /// QEMU's module folder, likewise.
    pub qemu_modules: Option<PathBuf>,
    /// Debian's daemon for key-value pairs in Linux guests (`hyperv-daemons`), if it could be had.
    pub kvp_daemon: Option<PathBuf>,
    /// Debian's generic kernel with some of its modules, if it could be had: for Linux guests only.
    pub generic: Option<GenericKernel>,
}

/// A kernel with more drivers than the lab's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericKernel {
    /// The kernel, a bzImage.
    pub image: PathBuf,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// Folder of its modules, of which many were left out.
    pub modules: PathBuf,
}

impl Parts {
    /// The parts in `target/lab` of this source tree.
    ///
    /// # Errors
    /// If they are missing, incomplete or of another layout; the text says what to run.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        Self::load(&root.join("target/lab"))
    }

    /// The parts in this folder.
    ///
    /// # Errors
    /// As [`Parts::find`].
    pub fn load(directory: &Path) -> Result<Self> {
        let list = directory.join("parts");
        let Ok(text) = fs::read_to_string(&list) else {
            bail!("the lab has no parts in {}. Run tests/setup.sh first.", directory.display());
        };
        let parts = match Self::parse(directory, &text) {
            Ok(parts) => parts,
            Err(problem) => {
                bail!(
                    "{}: {problem}. Run tests/setup.sh --force to fetch them again.",
                    list.display()
                )
            }
        };
        for path in [&parts.kernel, &parts.modules, &parts.busybox, &parts.qemu] {
            if !path.exists() {
                bail!("a part of the lab is gone: {}. Run tests/setup.sh.", path.display());
            }
        }
        Ok(parts)
    }

    fn parse(directory: &Path, text: &str) -> Result<Self, String> {
        let values: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        let get =
            |key: &str| values.get(key).copied().ok_or(format!("no '{key}' in the list of parts"));
        if get("recipe")? != RECIPE {
            return Err(format!("parts of layout {}, not {RECIPE}", get("recipe")?));
        }
        // An absolute path stays what it is.
        let path = |key: &str| get(key).map(|value| directory.join(value));
        let optional = |key: &str| -> Result<Option<PathBuf>, String> {
            Ok(Some(get(key)?).filter(|value| !value.is_empty()).map(|value| directory.join(value)))
        };
        let data = get("qemu_data")?.split(':').filter(|folder| !folder.is_empty());
        Ok(Self {
            directory: directory.to_owned(),
            kernel: path("kernel")?,
            kernel_release: get("kernel_release")?.to_owned(),
            modules: path("modules")?,
            busybox: path("busybox")?,
            qemu: path("qemu")?,
            qemu_version: get("qemu_version")?.to_owned(),
            qemu_data: data.map(|folder| directory.join(folder)).collect(),
            qemu_modules: optional("qemu_modules")?,
            kvp_daemon: optional("kvp_daemon")?,
            generic: match (optional("generic_kernel")?, optional("generic_modules")?) {
                (Some(image), Some(modules)) => {
                    Some(GenericKernel { image, release: get("generic_release")?.into(), modules })
                }
                _ => None,
            },
        })
    }

    /// Most processors that this QEMU can give a lab that works.
    pub fn max_cpus(&self) -> u32 {
        let major = self.qemu_version.split('.').next().and_then(|major| major.parse().ok());
        if major.unwrap_or(0u32) >= QEMU_FOR_SMP { MAX_CPUS } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "recipe=4\nkernel=kernel/boot/vmlinuz-6\nkernel_release=6\nmodules=kernel/lib\n\
        busybox=/bin/busybox\nqemu=qemu/bin/q\nqemu_version=10.0.2\nqemu_data=qemu/a:qemu/b\n\
        qemu_modules=qemu/m\nkvp_daemon=daemons/kvp\ngeneric_kernel=generic/boot/vmlinuz-7\n\
        generic_release=7\ngeneric_modules=generic/lib\n";

    fn parse(text: &str) -> Result<Parts, String> {
        Parts::parse(Path::new("/lab"), text)
    }

    #[test]
    fn relative_parts_lie_in_the_labs_folder_and_absolute_ones_do_not() {
        let parts = parse(LIST).unwrap();
        assert_eq!(parts.kernel, Path::new("/lab/kernel/boot/vmlinuz-6"));
        assert_eq!(parts.busybox, Path::new("/bin/busybox"));
        assert_eq!(parts.qemu_data, [Path::new("/lab/qemu/a"), Path::new("/lab/qemu/b")]);
        assert_eq!(parts.kvp_daemon.as_deref(), Some(Path::new("/lab/daemons/kvp")));
    }

    #[test]
    fn a_generic_kernel_is_there_or_not() {
        let generic = parse(LIST).unwrap().generic.unwrap();
        assert_eq!(generic.image, Path::new("/lab/generic/boot/vmlinuz-7"));
        assert_eq!(generic.release, "7");
        let without = LIST.replace("generic/boot/vmlinuz-7", "").replace("generic/lib", "");
        assert_eq!(parse(&without).unwrap().generic, None);
    }

    #[test]
    fn an_installed_qemu_needs_no_folders() {
        let list = LIST.replace("qemu/a:qemu/b", "").replace("qemu/m", "");
        let parts = parse(&list).unwrap();
        assert!(parts.qemu_data.is_empty() && parts.qemu_modules.is_none());
    }

    #[test]
    fn an_old_qemu_gets_one_processor() {
        assert_eq!(parse(LIST).unwrap().max_cpus(), 4);
        assert_eq!(parse(&LIST.replace("10.0.2", "7.2.1")).unwrap().max_cpus(), 1);
        assert_eq!(parse(&LIST.replace("10.0.2", "odd")).unwrap().max_cpus(), 1);
    }

    #[test]
    fn another_layout_or_a_missing_line_is_refused() {
        assert!(parse(&LIST.replace("recipe=4", "recipe=3")).is_err());
        for line in LIST.lines() {
            assert!(parse(&LIST.replace(line, "")).is_err(), "without {line}");
        }
        assert!(parse("").is_err());
    }
}
