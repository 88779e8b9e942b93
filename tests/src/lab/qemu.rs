//! The lab's QEMU as a child process: how it is started, and how it surely ends.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

use super::agent;
use super::parts::Parts;
use super::protocol::PORT_NAME;
use super::{sys, tsc};

/// What one start of the lab needs.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The lab's parts.
    pub parts: &'a Parts,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The initial file system.
    pub initrd: &'a Path,
    /// Where the lab's kernel log goes.
    pub console_log: &'a Path,
    /// Where QEMU's own words go.
    pub qemu_log: &'a Path,
}

/// A running QEMU; it is killed when this is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
}

/// The lab kernel's command line. The clock source is forced because the kernel would distrust an emulated
/// TSC, and KVM would then withhold the reference TSC page from its guests.
fn kernel_command_line(tsc_khz: Option<u32>) -> String {
    let known = tsc_khz.map_or_else(String::new, |khz| format!(" tsc_early_khz={khz}"));
    format!(
        "console=ttyS0 panic=-1 quiet tsc=reliable clocksource=tsc{known} rdinit=/init -- {}",
        agent::WORD
    )
}

/// QEMU's arguments. The agent's port is QEMU's standard input and output: no socket to name or leave behind,
/// and its end is the end of QEMU.
pub fn arguments(start: &Start) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    for folder in &start.parts.qemu_data {
        add(&["-L", &text(folder)]);
    }
    add(&["-accel", "tcg,thread=multi", "-cpu", "max"]);
    add(&["-smp", &start.cpus.to_string(), "-m", &start.memory_mib.to_string()]);
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // A comma in a file name is doubled in QEMU's options.
    add(&["-serial", &format!("file:{}", text(start.console_log).replace(',', ",,"))]);
    add(&["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"]);
    add(&["-device", &format!("virtserialport,chardev=agent,name={PORT_NAME}")]);
    add(&["-kernel", &text(&start.parts.kernel), "-initrd", &text(start.initrd)]);
    add(&["-append", &kernel_command_line(tsc::khz())]);
    arguments
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Qemu {
    /// Starts QEMU and returns its standard input and output beside it.
    ///
    /// # Errors
    /// If the program cannot be started or its log cannot be written.
    pub fn start(start: &Start) -> Result<(Self, ChildStdin, ChildStdout)> {
        let log = File::create(start.qemu_log)
            .with_context(|| format!("cannot write {}", start.qemu_log.display()))?;
        let mut command = Command::new(&start.parts.qemu);
        command.args(arguments(start)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        if let Some(folder) = &start.parts.qemu_modules {
            command.env("QEMU_MODULE_DIR", folder);
        }
        let mut child = sys::die_with_parent(&mut command)
            .spawn()
            .with_context(|| format!("cannot start {}", start.parts.qemu.display()))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let qemu = Self { child };
        let (stdin, stdout) = pipes.context("QEMU's standard streams are no pipes")?;
        Ok((qemu, stdin, stdout))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // SIGKILL also ends a QEMU that was stopped or hangs.
        let _gone_is_fine = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_is_the_measured_one() {
        let parts = Parts {
            directory: "/lab".into(),
            kernel: "/lab/k".into(),
            kernel_release: "6".into(),
            modules: "/lab/m".into(),
            busybox: "/b".into(),
            qemu: "/lab/q".into(),
            qemu_version: "10.0".into(),
            qemu_data: vec!["/lab/d".into()],
            qemu_modules: None,
            kvp_daemon: None,
            generic: None,
        };
        let path = Path::new("/t/a,b");
        let start = Start {
            parts: &parts,
            cpus: 2,
            memory_mib: 2048,
            initrd: path,
            console_log: path,
            qemu_log: path,
        };
        let line = arguments(&start).join(" ");
        for part in [
            "-L /lab/d -accel tcg,thread=multi -cpu max -smp 2 -m 2048 ",
            " -no-reboot ",
            " -serial file:/t/a,,b ",
            " -initrd /t/a,b ",
            "tsc=reliable clocksource=tsc",
            " -- lab-agent",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn the_kernel_is_told_a_known_frequency_only() {
        assert!(kernel_command_line(Some(2_300_000)).contains(" tsc_early_khz=2300000 rdinit="));
        assert!(!kernel_command_line(None).contains("tsc_early_khz"));
    }
}
