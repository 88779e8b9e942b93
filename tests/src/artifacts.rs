//! Where the things that `make build` made lie.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The repository's files that the programs of this crate use.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The repository.
    pub root: PathBuf,
    /// Our host's program.
    pub host: PathBuf,
    /// The program that does the guest's work on the bare machine.
    pub bare_metal: PathBuf,
    /// The program that tries devices inside Linux guests.
    pub probe: PathBuf,
    /// The kernel as the linker left it.
    pub linked_kernel: PathBuf,
    /// The kernel, finished: stripped, its symbol table filled in.
    pub kernel: PathBuf,
    /// Where reports go.
    pub reports: PathBuf,
}

impl Artifacts {
    /// The files beside the running program, which cargo has built in the same folder.
    ///
    /// # Errors
    ///
    /// If they are not there.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let program = std::env::current_exe()?;
        let folder = program.parent().unwrap_or(Path::new("."));
        let target = root.join("target");
        let artifacts = Self {
            root: root.to_owned(),
            host: folder.join("hypervisor-host"),
            bare_metal: folder.join("bare-metal"),
            probe: folder.join("guest-probe"),
            linked_kernel: folder.join("enlighten-kernel"),
            kernel: target.join("enlighten.elf"),
            reports: target.join("report"),
        };
        for file in
            [&artifacts.host, &artifacts.bare_metal, &artifacts.probe, &artifacts.linked_kernel]
        {
            if !file.exists() {
                bail!("{} is missing. Build it with: make build", file.display());
            }
        }
        Ok(artifacts)
    }
}
