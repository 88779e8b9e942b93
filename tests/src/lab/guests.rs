//! Things to take along: a monitor that we did not write, and a guest that we did not write.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::initramfs;
use super::job::BatchFile;
use super::parts::{GenericKernel, Parts};

/// Debian's QEMU, as installed.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Where Debian puts QEMU's firmware.
const FIRMWARE_FOLDERS: [&str; 2] = ["/usr/share/qemu", "/usr/share/seabios"];
/// Firmware and option ROMs for `pc`, `q35` and `microvm` with `-kernel`; those that exist are taken.
const FIRMWARE: [&str; 10] = [
    "bios.bin",
    "bios-256k.bin",
    "bios-microvm.bin",
    "pvh.bin",
    "linuxboot.bin",
    "linuxboot_dma.bin",
    "multiboot.bin",
    "multiboot_dma.bin",
    "kvmvapic.bin",
    "vgabios-stdvga.bin",
];

/// A monitor to take along.
#[derive(Debug, Clone)]
pub struct ForeignQemu {
    /// Its program, libraries and firmware.
    pub files: Vec<BatchFile>,
    /// The program and the arguments it always needs; add `-accel`, `-cpu` and a machine.
    pub argv: Vec<String>,
    /// What `--version` says.
    pub version: String,
}

/// The installed QEMU with all that it needs, under `qemu/`.
///
/// # Errors
/// If it is not installed or a library of it is missing.
pub fn foreign_qemu() -> Result<ForeignQemu> {
    let TakenAlong { mut files, mut argv } = taken_along(Path::new(QEMU), "qemu")?;
    for name in FIRMWARE {
        let found = FIRMWARE_FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.exists());
        if let Some(path) = found {
            files.push(file(path, format!("qemu/data/{name}")));
        }
    }
    argv.extend(["-L", "qemu/data"].map(str::to_owned));
    let version = run(Command::new(QEMU).arg("--version"))?;
    Ok(ForeignQemu { files, argv, version: version.lines().next().unwrap_or_default().to_owned() })
}

/// A program of this machine to take along.
#[derive(Debug, Clone)]
pub struct TakenAlong {
    /// The program and its libraries.
    pub files: Vec<BatchFile>,
    /// What starts it: its own dynamic loader, so that it runs wherever its files are.
    pub argv: Vec<String>,
}

/// `program` and its libraries, under `folder` of a batch.
///
/// # Errors
/// If it or a library of it is missing.
pub fn taken_along(program: &Path, folder: &str) -> Result<TakenAlong> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let to = format!("{folder}/{name}");
    let mut files = vec![file(program, to.as_str())];
    for (name, path) in libraries(program)? {
        files.push(file(path, format!("{folder}/lib/{name}")));
    }
    let (loader, lib) = (format!("{folder}/lib/ld-linux-x86-64.so.2"), format!("{folder}/lib"));
    Ok(TakenAlong { files, argv: vec![loader, "--library-path".into(), lib, to] })
}

fn file(from: impl Into<PathBuf>, to: impl Into<String>) -> BatchFile {
    BatchFile { from: from.into(), to: to.into() }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The shared libraries of a program, and the loader itself, by the names that it looks for.
fn libraries(program: &Path) -> Result<BTreeMap<String, PathBuf>> {
    if !program.exists() {
        bail!("{} is not there. Run tests/setup.sh to install it.", program.display());
    }
    parse_ldd(&run(Command::new("ldd").arg(program))?)
}

fn parse_ldd(text: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut libraries = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "=>", "not", "found"] => {
                bail!("the library {name} is missing. Run tests/setup.sh.")
            }
            [name, "=>", path, ..] => {
                libraries.insert((*name).to_owned(), PathBuf::from(path));
            }
            [path, ..] if path.starts_with('/') => {
                let path = PathBuf::from(path);
                if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                    libraries.insert(name.to_owned(), path.clone());
                }
            }
            _ => {}
        }
    }
    Ok(libraries)
}

/// Where a Linux guest's kernel lies in a batch.
pub const LINUX_KERNEL: &str = "linux/vmlinuz";
/// Where Debian's generic kernel does.
const GENERIC_KERNEL: &str = "linux/vmlinuz-generic";
/// Why there is none.
pub const NO_GENERIC_KERNEL: &str = "Debian's generic kernel, which has the driver, could not be fetched; tests/setup.sh --force tries again";

/// Name of the initial file system with drivers of synthetic devices.
const SYNTHETIC: &str = "linux-synthetic";
/// Where it lies in a batch.
pub const SYNTHETIC_INITRD: &str = "linux/linux-synthetic.cpio";
/// The kernel command line that works best in the lab; the console is `ttyS0`. quiet: each character costs an exit. Without the two
/// before it, nested Linux fails more often under the emulated AMD-V (docs/lab.md).
pub const LINUX_CMDLINE: &str = "console=ttyS0 panic=-1 mitigations=off nopcid quiet";

/// A stock Linux to take along.
#[derive(Debug, Clone)]
pub struct LinuxGuest {
    /// Its kernel.
    pub kernel_file: BatchFile,
    /// Its initial file system.
    pub initrd_file: BatchFile,
    /// Name of the kernel among a batch's files: a bzImage.
    pub kernel: String,
    /// Name of the initial file system among a batch's files.
    pub initrd: String,
    /// The kernel command line that works best in the lab; the console is `ttyS0`.
    pub cmdline: String,
    /// The kernel's release.
    pub release: String,
    /// What its shell prompts with.
    pub prompt: String,
}

/// What the guest's shell prompts with. No command line echoes it.
const PROMPT: &str = "linux-guest# ";

/// What a Linux guest has beside a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinuxKind {
    /// Nothing.
    Plain,
    /// The drivers of synthetic devices, loaded at start; tools to try them with, `guest-probe` among them.
    Synthetic,
    /// The drivers of all devices that `make compare` compares, with the same tools.
    Compare,
    /// The drivers of emulated devices that the lab's kernel has, with the same tools.
    Emulated,
    /// The same on Debian's generic kernel, which has one more: `tulip`.
    EmulatedGeneric,
}

/// A kernel for a guest.
struct Kernel<'a> {
    image: &'a Path,
    release: &'a str,
    modules: &'a Path,
    /// Its name in a batch.
    name: &'static str,
}

impl LinuxKind {
    fn kernel(self, parts: &Parts) -> Result<Kernel<'_>> {
        if self != Self::EmulatedGeneric {
            let (image, release) = (&parts.kernel, &parts.kernel_release);
            return Ok(Kernel { image, release, modules: &parts.modules, name: LINUX_KERNEL });
        }
        let generic = parts.generic.as_ref().context(NO_GENERIC_KERNEL)?;
        let GenericKernel { image, release, modules } = generic;
        Ok(Kernel { image, release, modules, name: GENERIC_KERNEL })
    }

    /// Name of the initial file system, and modules that are loaded at start. With any of them it has tools, too.
    fn contents(self) -> (&'static str, &'static [(&'static str, &'static str)]) {
        match self {
            Self::Plain => ("linux", &[]),
            Self::Synthetic => (SYNTHETIC, &SYNTHETIC_MODULES),
            Self::Compare => ("linux-compare", &COMPARE_MODULES),
            Self::Emulated => ("linux-emulated", &EMULATED_MODULES),
            Self::EmulatedGeneric => ("linux-emulated-generic", &EMULATED_MODULES),
        }
    }
}

/// Linux's drivers for VMBus and its devices, and what disks need besides.
const SYNTHETIC_MODULES: [(&str, &str); 5] =
    [("hv_vmbus", ""), ("hv_utils", ""), ("sd_mod", ""), ("hv_storvsc", ""), ("hv_netvsc", "")];
/// The same, and Linux's drivers of what stands beside them: IDE, DEC 21140A, virtio. Those that the kernel lacks are left out.
const COMPARE_MODULES: [(&str, &str); 10] = [
    ("hv_vmbus", ""),
    ("sd_mod", ""),
    ("hv_storvsc", ""),
    ("hv_netvsc", ""),
    ("ata_piix", ""),
    ("tulip", ""),
    ("virtio_pci", ""),
    ("virtio_blk", ""),
    ("virtio_net", ""),
    ("af_packet", ""),
];
/// The same for emulated devices alone, and file systems of theirs, which are built into some kernels.
const EMULATED_MODULES: [(&str, &str); 8] = [
    ("sd_mod", ""),
    ("sr_mod", ""),
    ("ata_piix", ""),
    ("tulip", ""),
    ("isofs", ""),
    ("crc32c_generic", ""),
    ("ext4", ""),
    ("af_packet", ""),
];
/// Programs with their libraries that a guest with synthetic devices gets from this machine, if they are there.
const TOOLS: [&str; 2] = ["/usr/sbin/mke2fs", "/usr/sbin/e2fsck"];

/// The first program of a Linux guest: a shell on the console; `reboot -f` ends the machine. As modprobe does, it gives modules the
/// parameters that are on the kernel's command line behind their names (`libata.dma=0`).
fn init_script() -> String {
    format!(
        "#!/bin/sh\n\
         export PATH=/bin PS1='{PROMPT}'\n\
         mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev 2>/dev/null\n\
         options() {{ for word in $(cat /proc/cmdline); do case $word in $1.*) echo \"${{word#*.}}\" ;; esac; done; }}\n\
         [ ! -e {list} ] || while read -r module; do name=${{module##*/}}; insmod $module $(options ${{name%%.ko*}}); done < {list}\n\
         [ -z \"${{{cases}}}\" ] || exec guest-probe cases\n\
         [ ! -x /etc/on-start ] || /etc/on-start\n\
         echo \"LINUX-GUEST-UP $(uname -r) cpus=$(nproc)\"\n\
         exec setsid cttyhack sh -i\n",
        list = super::agent::MODULE_LIST,
        cases = crate::probe::cases::run::CASES_VARIABLE
    )
}

/// Debian's cloud kernel, the lab's own, or the generic one, with a shell on its serial console.
///
/// # Errors
/// If the lab's parts are missing, also where the lab itself is not needed, or the generic kernel is.
pub fn linux_guest(parts: &Parts, kind: LinuxKind) -> Result<LinuxGuest> {
    let mut archive = Archive::default();
    for directory in ["proc", "sys", "dev", "tmp"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, init_script().as_bytes());
    initramfs::add_busybox(&mut archive, &parts.busybox)?;
    let kernel = kind.kernel(parts)?;
    let (name, modules) = kind.contents();
    if !modules.is_empty() {
        initramfs::add_modules(&mut archive, kernel.modules, modules)?;
        add_tools(&mut archive, parts)?;
    }
    let folder = parts.directory.join("guests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let initrd = folder.join(format!("{name}.cpio"));
    // Written beside and renamed: another runner may be reading the old one.
    let fresh = folder.join(format!("{name}.cpio.{}", std::process::id()));
    fs::write(&fresh, archive.finish())
        .with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, &initrd).with_context(|| format!("cannot write {}", initrd.display()))?;
    let initrd_name = format!("linux/{name}.cpio");
    Ok(LinuxGuest {
        kernel_file: file(kernel.image, kernel.name),
        initrd_file: file(initrd, initrd_name.as_str()),
        kernel: kernel.name.into(),
        initrd: initrd_name,
        cmdline: LINUX_CMDLINE.into(),
        release: kernel.release.into(),
        prompt: PROMPT.into(),
    })
}

/// `guest-probe`, which cargo built beside the running program, or one folder up (examples and tests).
fn probe() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("guest-probe")).find(|path| path.exists());
    found.context("guest-probe is missing. Build it with: make build")
}

/// `guest-probe`, programs of this machine with their libraries, and Debian's daemon for key-value pairs.
fn add_tools(archive: &mut Archive, parts: &Parts) -> Result<()> {
    archive.file("bin/guest-probe", 0o755, &initramfs::read(&probe()?)?);
    archive.file("bin/cases.sh", 0o644, crate::suites::linux_devices::GUEST_SCRIPT.as_bytes());
    archive.file("bin/synthetic-test", 0o755, crate::suites::synthetic::GUEST_SCRIPT.as_bytes());
    archive.file("bin/emulated-test", 0o755, crate::suites::emulated::GUEST_SCRIPT.as_bytes());
    archive.file("bin/io-bench", 0o755, crate::bench::GUEST_SCRIPT.as_bytes());
    archive.file("bin/compare", 0o755, crate::compare::GUEST_SCRIPT.as_bytes());
    let mut programs: Vec<PathBuf> = TOOLS.iter().map(PathBuf::from).collect();
    programs.extend(parts.kvp_daemon.clone());
    let mut done = std::collections::BTreeSet::new();
    archive.directory("lib64");
    archive.directory("tools");
    for program in programs.iter().filter(|program| program.exists()) {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        // Not in `bin`: busybox's shell prefers its own commands to programs of the same name there.
        archive.file(&format!("tools/{name}"), 0o755, &initramfs::read(program)?);
        for (name, path) in libraries(program)? {
            // The loader has its place; the others are looked for under `lib64`, too.
            if done.insert(name.clone()) {
                archive.file(&format!("lib64/{name}"), 0o755, &initramfs::read(&path)?);
            }
        }
    }
    archive.symlink("lib", "lib64");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // ldd of GNU C Library 2.36.
    const LDD: &str = "\tlinux-vdso.so.1 (0x00007ffd)\n\
        \tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\
        \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
        \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";

    #[test]
    fn libraries_and_the_loader_are_found_and_the_vdso_is_not() {
        let libraries = parse_ldd(LDD).unwrap();
        let names: Vec<&str> = libraries.keys().map(String::as_str).collect();
        assert_eq!(names, ["ld-linux-x86-64.so.2", "libc.so.6", "libz.so.1"]);
        assert_eq!(libraries["libz.so.1"], Path::new("/lib/x86_64-linux-gnu/libz.so.1"));
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse_ldd("\tlibpmem.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libpmem.so.1"));
    }
}
