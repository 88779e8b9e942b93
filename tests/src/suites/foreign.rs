//! A foreign test kernel ([`crate::foreign`]) on our host and on QEMU, which must get the same from both.

use anyhow::Result;

use super::kvm::{Check, HOST};
use super::trial::exit_text;
use crate::artifacts::Artifacts;
use crate::foreign;
use crate::lab::{Batch, Job, JobResult};
use crate::outcome::{Case, write_file};
use crate::vmm::QEMU_HYPERV_CPU;

/// The image, and its modules.
const KERNEL: &str = "foreign";
const MODULES: [(&str, &[u8]); 2] = [("environment", b"NR_CPUS=2"), ("second", b"of two")];
const VPS: &str = "3";
const MEMORY_MIB: &str = "32";

/// What the parts print, by the word that chooses them. The exit code is that of success, 0, as
/// `isa-debug-exit` gives it.
const BOOT: (&str, &str) = (
    "boot",
    "eax 2badb002
vm and if 00000000
paging and protection 00000001
limit of ds ffffffff
below 1 MiB 00000000
has 0000004d
command line: foreign x=1 boot
modules 00000002
environment:NR_CPUS=2
second a b:of two
memory sizes and map agree
RSDP found
MADT found
",
);
const DEVICES: (&str, &str) = (
    "devices",
    "fw_cfg signature 554d4551
fw_cfg RAM size 02000000
fw_cfg processors 00000003
ports 00002244
 and then 44992211
memory 889977bb
 and then 00000000
edges 00000001
 and then 00000002
level 00000003
",
);
const SMP: (&str, &str) = ("smp", "processors online 00000003\nAPIC ids 00000007\n");
const WITHOUT_HYPERV: (&str, &str) = ("hyperv", "no SynIC\n");
/// Statuses of the TLFS's `HvCallPostMessage` and `HvCallSignalEvent`: 0x12 an unknown connection, 0x13 no buffer
/// left. Flags of a message: 1, that another one waits.
const HYPERV: (&str, &str) = (
    "hyperv",
    "signal in 32-bit mode 00000012
signal 00000012
post 00000012
interrupts 00000001
post 00000000
interrupts 00000001
 slot 12345678
 size and flags 00000008
 payload 00000100
post 00000000
interrupts 00000000
 slot 12345678
 size and flags 00000108
 payload 00000100
post 00000013
interrupts 00000000
 slot 12345678
 size and flags 00000108
 payload 00000100
interrupts 00000001
 slot 12345678
 size and flags 00000008
 payload 00000101
interrupts 00000000
 slot 00000000
 size and flags 00000008
 payload 00000101
post 00000000
interrupts 00000001
 slot 12345678
 size and flags 00000008
 payload 00000102
post 00000012
interrupts 00000000
 slot 00000000
 size and flags 00000008
 payload 00000102
signal 00000000
interrupts 00000001
 flags 32 to 63 00000001
signal 00000000
interrupts 00000000
 flags 32 to 63 00000001
signal 00000000
interrupts 00000001
 flags 32 to 63 00000001
signal 00000012
",
);

const CONNECTIONS: (&str, &str) = (
    "connections",
    "messages to oneself 00000003
messages to another 00000003
messages to an occupied slot 00000003
messages that waited 00000003
signals to oneself 00000003
signals to another 00000003
signals of a flag that is set 00000003
six routes raised by another 00000003
",
);

/// On our host and on QEMU with KVM, whose program and arguments are `qemu`.
pub fn on_kvm(artifacts: &Artifacts, batch: &mut Batch, qemu: &[String]) -> Result<Vec<Check>> {
    add_files(artifacts, batch)?;
    let mut checks = Vec::new();
    for part in [BOOT, DEVICES, SMP, HYPERV, CONNECTIONS] {
        checks.push(check("our host", our_host(part.0, &[]), part));
        let processor = ["-accel", "kvm", "-cpu", QEMU_HYPERV_CPU, "-device", "hyperv-testdev"];
        checks.push(check("QEMU with KVM", on_qemu(qemu, &processor, part.0), part));
    }
    let without = our_host(WITHOUT_HYPERV.0, &["--hyperv", "off"]);
    checks.push(check("our host without Hyper-V", without, WITHOUT_HYPERV));
    Ok(checks)
}

/// On QEMU's software processor, which has no Hyper-V interface.
pub fn on_tcg(artifacts: &Artifacts, batch: &mut Batch, qemu: &[String]) -> Result<Vec<Check>> {
    add_files(artifacts, batch)?;
    let parts = [BOOT, DEVICES, SMP, WITHOUT_HYPERV];
    let checks = parts
        .map(|part| check("QEMU", on_qemu(qemu, &["-accel", "tcg", "-cpu", "max"], part.0), part));
    Ok(checks.into())
}

fn add_files(artifacts: &Artifacts, batch: &mut Batch) -> Result<()> {
    let folder = artifacts.root.join("target/lab/guests");
    let image = foreign::image();
    for (name, content) in [(KERNEL, image.as_slice())].into_iter().chain(MODULES) {
        let path = folder.join(format!("foreign-{name}"));
        write_file(&path, content)?;
        batch.file(path, name);
    }
    Ok(())
}

fn our_host(word: &str, options: &[&str]) -> Vec<String> {
    let host = format!("./{HOST}");
    let line = format!("x=1 {word}");
    let [(first, _), (second, _)] = MODULES;
    let second = format!("{second},a b");
    let words = [&host, "run", "--test-devices", "--kernel", KERNEL, "--cmdline", &line];
    let modules = ["--initrd", first, "--module", &second];
    let machine = ["--vps", VPS, "--memory", &format!("{MEMORY_MIB}M")];
    [&words[..], &modules, &machine, options].concat().iter().map(ToString::to_string).collect()
}

fn on_qemu(qemu: &[String], processor: &[&str], word: &str) -> Vec<String> {
    let line = format!("x=1 {word}");
    let [(first, _), (second, _)] = MODULES;
    let modules = format!("{first},{second} a b");
    let words = ["-kernel", KERNEL, "-append", &line, "-initrd", &modules];
    let machine = ["-smp", VPS, "-m", MEMORY_MIB, "-display", "none", "-nodefaults"];
    let devices = ["-serial", "stdio", "-no-reboot", "-device", "pc-testdev"];
    let exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"];
    let all = [&words[..], &machine, &devices, &exit, processor].concat();
    qemu.iter().cloned().chain(all.iter().map(ToString::to_string)).collect()
}

fn check(monitor: &str, argv: Vec<String>, (word, expected): (&str, &'static str)) -> Check {
    let job = Job::new(format!("a foreign test kernel on {monitor}: {word}"), argv).timeout(60);
    Check { job, judge: Box::new(move |result| vec![judge(result, expected)]) }
}

fn judge(result: &JobResult, expected: &str) -> Case {
    // (0 << 1) | 1
    const SUCCESS: i32 = 1;
    let text = result.stdout_text();
    let wrong = match difference(&text, expected) {
        Some(difference) => Some(difference),
        None if result.exit.code() != Some(SUCCESS) => Some(exit_text(&result.exit)),
        None => None,
    };
    let stderr = result.stderr_text();
    let wrong = wrong.map(|wrong| format!("{wrong} {}", stderr.trim()).trim_end().to_owned());
    Case::check(&result.name, wrong)
}

/// The first line of `text` that is not as expected.
fn difference(text: &str, expected: &str) -> Option<String> {
    let mut lines = text.lines();
    for (number, expected) in (1..).zip(expected.lines()) {
        match lines.next() {
            Some(line) if line == expected => {}
            Some(line) => return Some(format!("line {number} is '{line}', not '{expected}'")),
            None => return Some(format!("it ended before line {number}, '{expected}'")),
        }
    }
    lines.next().map(|line| format!("it went on with '{line}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nc\n", "a\nb\n").unwrap(), "line 2 is 'c', not 'b'");
        assert_eq!(difference("a\n", "a\nb\n").unwrap(), "it ended before line 2, 'b'");
        assert_eq!(difference("a\nb\n", "a\n").unwrap(), "it went on with 'b'");
    }

    #[test]
    fn both_monitors_get_the_same_modules_and_words() {
        let host = our_host("boot", &[]);
        assert!(host.contains(&"second,a b".into()) && host.contains(&"x=1 boot".into()));
        let qemu = on_qemu(&["qemu".into()], &[], "boot");
        assert!(qemu.contains(&"environment,second a b".into()), "{qemu:?}");
    }
}
