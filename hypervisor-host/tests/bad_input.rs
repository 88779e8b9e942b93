//! Whatever a person gets wrong, the program says so in one sentence and ends with code 2.
//!
//! The sentence names what failed, on what, and after a semicolon what to do. All of it happens before
//! KVM is opened, the device itself apart, so these tests need none.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A good PVH kernel of 304 bytes and a good bzImage; the fuzzer starts from them too. The ELF file's
/// fields lie where its specification has them; its program headers are at 0x40, 0x78 and 0xB0.
const ELF: &[u8] = include_bytes!("../../tests/fuzz/seeds/loader/pvh.elf");
const BZIMAGE: &[u8] = include_bytes!("../../tests/fuzz/seeds/loader/small.bzimage");

const CODE_SEGMENT: usize = 0x40;
const DATA_SEGMENT: usize = 0x78;
const NOTE_SEGMENT: usize = 0xB0;
const P_OFFSET: usize = 0x08;
const P_PADDR: usize = 0x18;
const P_FILESZ: usize = 0x20;
const P_MEMSZ: usize = 0x28;

/// A folder that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("bad-input-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// [`ELF`] with some fields changed.
fn patched(patches: &[(usize, u64)]) -> Vec<u8> {
    let mut image = ELF.to_vec();
    for &(offset, value) in patches {
        image[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    image
}

fn host<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hypervisor-host"))
        .args(arguments)
        // A panic would show itself at length.
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap()
}

/// Checks exit code and form, and that the sentence contains all of `parts`.
#[track_caller]
fn check_refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty(), "standard output is the guest's");
    let sentence = text.strip_suffix('\n').unwrap_or_else(|| panic!("no line end: {text}"));
    assert!(!sentence.contains('\n'), "more than one line: {sentence}");
    assert!(sentence.starts_with("hypervisor-host: "), "{sentence}");
    // The longest lists the parts of the Hyper-V interface.
    assert!(sentence.len() < 700, "too long to read: {sentence}");
    for unwanted in ["panicked", "backtrace", "Os {", "Error {", "Some(", "unwrap"] {
        assert!(!sentence.contains(unwanted), "not for a person: {sentence}");
    }
    let advice = sentence.rsplit_once("; ").map_or("", |(_, advice)| advice);
    assert!(!advice.is_empty(), "it does not say what to do: {sentence}");
    for part in parts {
        assert!(sentence.contains(part), "'{part}' is not in: {sentence}");
    }
}

/// `run` with the kernel at `path`, which must be refused with its path and `parts` in the sentence.
#[track_caller]
fn check_kernel_refused(path: &Path, options: &[&str], parts: &[&str]) {
    let output = run(path, options);
    check_refused(&output, parts);
    check_refused(&output, &["kernel", &path.to_string_lossy()]);
}

fn run(kernel: &Path, options: &[&str]) -> Output {
    let mut arguments = vec![OsStr::new("run"), OsStr::new("--kernel"), kernel.as_os_str()];
    arguments.extend(options.iter().map(OsStr::new));
    host(arguments)
}

/// `run` with a good kernel and these options, which must be refused.
#[track_caller]
fn check_options_refused(test: &str, options: &[&str], parts: &[&str]) {
    let folder = Folder::new(test);
    check_refused(&run(&folder.file("good-kernel", ELF), options), parts);
}

#[test]
fn a_kernel_that_is_not_there() {
    let folder = Folder::new("missing");
    check_kernel_refused(&folder.0.join("nothing"), &[], &["no such file", "check the path"]);
    let not_utf8 = folder.0.join(OsStr::from_bytes(b"\xFF\xFE"));
    check_kernel_refused(&not_utf8, &[], &["no such file"]);
}

#[test]
fn a_kernel_that_is_no_regular_file() {
    let folder = Folder::new("special");
    check_kernel_refused(&folder.0, &[], &["is a directory"]);
    check_kernel_refused(Path::new("/dev/zero"), &[], &["device"]);
}

#[test]
fn a_kernel_that_is_no_image() {
    let folder = Folder::new("no-image");
    check_kernel_refused(&folder.file("empty", b""), &[], &["empty"]);
    let text = folder.file("notes.txt", b"#!/bin/sh\necho this is not a kernel\n");
    check_kernel_refused(&text, &[], &["neither an ELF file nor a Linux bzImage"]);
}

#[test]
fn a_kernel_for_another_machine() {
    let folder = Folder::new("machine");
    for (name, offset, value, part) in [
        ("elf32", 4, 1, "64-bit"),
        ("big-endian", 5, 2, "little-endian"),
        ("aarch64", 0x12, 183, "machine 183"),
        ("pie", 0x10, 3, "-pie"),
    ] {
        let mut image = ELF.to_vec();
        image[offset] = value;
        check_kernel_refused(&folder.file(name, &image), &[], &[part]);
    }
}

#[test]
fn a_truncated_kernel() {
    let folder = Folder::new("truncated");
    for (length, part) in [
        (40, "ends within the ELF header"),
        (100, "program headers lie outside the file"),
        (0x108, "segment 0 ends outside the file"),
        (0x114, "segment 1 ends outside the file"),
    ] {
        let path = folder.file("kernel.elf", &ELF[..length]);
        check_kernel_refused(&path, &[], &[part]);
    }
    let path = folder.file("bzImage", &BZIMAGE[..0x600]);
    check_kernel_refused(&path, &[], &["bzImage is truncated"]);
}

#[test]
fn a_segment_outside_ram() {
    let folder = Folder::new("outside");
    for (name, address) in [("above", 16 << 20), ("in-the-hole", 0xC000_0000), ("far", 1 << 62)] {
        let path = folder.file(name, &patched(&[(DATA_SEGMENT + P_PADDR, address)]));
        let parts = ["segment 1", "outside the guest's RAM", "--memory"];
        check_kernel_refused(&path, &["--memory", "16M"], &parts);
    }
    let huge = folder.file("huge", &patched(&[(DATA_SEGMENT + P_MEMSZ, 1 << 40)]));
    check_kernel_refused(&huge, &["--memory", "16M"], &["segment 1", "1099511627776 bytes"]);
    let low = folder.file("low", &patched(&[(CODE_SEGMENT + P_PADDR, 0x7C00)]));
    check_kernel_refused(&low, &[], &["segment 0", "below 1 MiB"]);
}

#[test]
fn segments_that_make_no_sense() {
    let folder = Folder::new("nonsense");
    let overlap = folder.file("overlap", &patched(&[(DATA_SEGMENT + P_PADDR, 0x10_0010)]));
    check_kernel_refused(&overlap, &[], &["segments 0 and 1 overlap"]);
    let wrap = folder.file("wrap", &patched(&[(DATA_SEGMENT + P_PADDR, u64::MAX)]));
    check_kernel_refused(&wrap, &[], &["segment 1", "wraps around"]);
    let size = folder.file("size", &patched(&[(DATA_SEGMENT + P_MEMSZ, 1)]));
    check_kernel_refused(&size, &[], &["segment 1", "more bytes in the file than in memory"]);
    let offset = folder.file("offset", &patched(&[(CODE_SEGMENT + P_OFFSET, 1 << 40)]));
    check_kernel_refused(&offset, &[], &["segment 0", "outside the file"]);
    let notes = folder.file("notes", &patched(&[(NOTE_SEGMENT + P_FILESZ, 23)]));
    check_kernel_refused(&notes, &[], &["notes in segment 2"]);
    let mut many = ELF.to_vec();
    many[0x38..0x3A].fill(0xFF);
    check_kernel_refused(&folder.file("many", &many), &[], &["65535 program headers"]);
}

#[test]
fn a_kernel_that_can_not_be_entered_so() {
    let folder = Folder::new("entry");
    let bzimage = folder.file("bzImage", BZIMAGE);
    check_kernel_refused(&bzimage, &["--boot", "pvh"], &["no PVH entry", "--boot"]);
    let entry = folder.file("entry", &patched(&[(0x18, 0x10_1000)]));
    check_kernel_refused(&entry, &["--boot", "linux64"], &["0x101000", "executable"]);
}

#[test]
fn a_kernel_too_big_for_the_ram() {
    let folder = Folder::new("too-big");
    let path = folder.file("bzImage", BZIMAGE);
    check_kernel_refused(&path, &["--memory", "2M"], &["0x200000 to 0x300000", "--memory"]);
    // A terabyte of holes: nothing of it may be read or allocated.
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    check_kernel_refused(&path, &["--memory", "16M"], &["0x200000 to 0x100", "--memory"]);
}

#[test]
fn an_initrd_that_can_not_be_used() {
    let folder = Folder::new("initrd");
    let refused = |initrd: &Path, parts: &[&str]| {
        let initrd = initrd.to_string_lossy();
        let output = run(&folder.file("kernel", ELF), &["--memory", "16M", "--initrd", &initrd]);
        check_refused(&output, parts);
        check_refused(&output, &["initrd", &initrd]);
    };
    refused(&folder.0.join("nothing"), &["no such file"]);
    refused(&folder.0, &["is a directory"]);
    let large = folder.file("large", b"");
    refused(&large, &["empty"]);
    File::options().write(true).open(&large).unwrap().set_len(1 << 40).unwrap();
    refused(&large, &["1099511627776 bytes", "16777216 bytes", "--memory"]);
}

#[test]
fn a_command_line_too_long_for_the_kernel() {
    let folder = Folder::new("cmdline");
    let output = run(&folder.file("bzImage", BZIMAGE), &["--cmdline", &"x".repeat(2048)]);
    check_refused(&output, &["command line", "2048 bytes", "2047", "shorten it"]);
}

#[test]
fn numbers_of_processors_out_of_range() {
    for vps in ["0", "65", "-1", "4294967296", "four", "1.5", ""] {
        check_options_refused("vps", &["--vps", vps], &["1 to 64"]);
    }
}

#[test]
fn absurd_amounts_of_memory() {
    for (memory, part) in [
        ("0", "too little"),
        ("4095", "too little"),
        ("1M", "too little"),
        ("1025G", "too much"),
        ("16E", "too much"),
        ("99999999999999999999G", "too much"),
        ("4194305", "whole number of pages"),
        ("-1G", "--memory"),
        ("lots", "--memory"),
        ("0x10M", "--memory"),
        ("", "--memory"),
    ] {
        check_options_refused("memory", &["--memory", memory], &[part]);
    }
}

#[test]
fn lists_of_processors_that_name_none() {
    for cpus in ["", "x", "1-", "3-1", "0,0", "0-99999999999", "1024", "-1"] {
        check_options_refused("cpus", &["--cpus", cpus], &["processors"]);
    }
}

#[test]
fn a_processor_that_this_computer_has_not() {
    check_options_refused("no-such-cpu", &["--cpus", "1023"], &["processor 1023", "--cpus"]);
}

#[test]
fn unknown_options_and_values() {
    for (options, part) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["extra"], "extra"),
        (&["--policy", "sleep"], "sleep"),
        (&["--hv-disable", "bogus"], "bogus"),
        (&["--hv-only", "create-partitions"], "name some of"),
        (&["--hv-only", ""], "name some of"),
        (&["--hv-only", "synic", "--hv-disable", "synic"], "--hv-only"),
        (&["--ic", "heartbeats"], "there is no component 'heartbeats'; give on, off"),
        (&["--ic", "kvp,"], "there is no component ''"),
        (&["--control", ""], "--control"),
        (&["--control", "/dev/null"], "/dev/null as control socket: there is something else"),
        (&["--control", "/nowhere/socket"], "control socket /nowhere/socket: No such file"),
        (&["--boot", "bios"], "bios"),
        (&["--hyperv", "maybe"], "maybe"),
        (&["--spin-threshold", "0"], "spin threshold"),
        (&["--spin-threshold", "often"], "spin threshold"),
        (&["--timeout", "0"], "number of seconds"),
        (&["--timeout", "-5"], "number of seconds"),
        (&["--timeout", "nan"], "number of seconds"),
        (&["--timeout", "1e400"], "number of seconds"),
        (&["--vps"], "--vps"),
        (&["--vps", "2", "--vps", "3"], "--vps"),
    ] {
        check_options_refused("options", options, &[part]);
    }
    check_refused(&host(["run"]), &["--kernel"]);
    check_refused(&host(["walk"]), &["walk"]);
    let not_utf8 = OsStr::from_bytes(b"\xFF\xFE");
    let arguments = [OsStr::new("run"), OsStr::new("--cmdline"), not_utf8];
    check_refused(&host(arguments), &["UTF-8"]);
}

#[test]
fn versions_of_vmbus_that_there_are_not() {
    for version in ["", "5", "5.4", "6.1", "-1", "5.3.0", "newest", "99999999999.1"] {
        let parts = ["version of VMBus", "6.0, 5.3, 5.2", "0.13"];
        check_options_refused("vmbus", &["--vmbus-version", version], &parts);
    }
    check_options_refused("vmbus", &["--vmbus", "maybe"], &["--vmbus"]);
}

#[test]
fn a_vmbus_without_what_it_takes() {
    for options in [
        &["--hyperv", "off"][..],
        &["--hv-disable", "synic"],
        &["--hv-disable", "post-messages,cluster-ipi"],
        &["--hv-only", "hypercall,synic,post-messages"],
    ] {
        let options = [&["--vmbus", "on"], options].concat();
        check_options_refused("no-vmbus", &options, &["no VMBus", "--vmbus off"]);
    }
}

#[test]
fn network_cards_that_make_no_sense() {
    for (option, parts) in [
        ("bridge=br0", &["\"bridge=br0\" is no network", "give tap=NAME"][..]),
        ("tap=a/b", &["no name of a TAP device"]),
        ("user,mac=ff:ff:ff:ff:ff:ff", &["no address of a network card"]),
        ("user,mtu=65001", &["number from 576 to 65000"]),
        ("user,queues=65", &["number from 1 to 64"]),
        ("user,tcp=0:80", &["pair of ports"]),
        ("switch=lan,frobnicate=1", &["frobnicate", "give mac="]),
    ] {
        check_options_refused("net-syntax", &["--net", option], parts);
    }
}

#[test]
fn emulated_cards_that_make_no_sense() {
    for (option, parts) in [
        ("user,model=foo", &["\"foo\" is no model of a network card", "give netvsc or tulip"][..]),
        (
            "tap=t,model=tulip,queues=2",
            &["model tulip has no queues=", "give that with model=netvsc"],
        ),
        ("user,model=tulip,mtu=9000", &["model tulip has no mtu="]),
    ] {
        check_options_refused("tulip-syntax", &["--net", option], parts);
    }
}

#[test]
fn ide_drives_that_make_no_sense() {
    let folder = Folder::new("ide");
    let disk = folder.file("disk", &[0; 4096]).to_string_lossy().into_owned();
    let with = |words: &str| format!("{disk}{words}");
    for (words, parts) in [
        (&[",ide=9"][..], &["\"9\" is no place on the IDE controller", "from 0 to 3"][..]),
        (&[",cdrom,cow"], &["cow does not go with", "give only one of ro, cow"]),
        (&[",ide,lun=1"], &["lun=1 does not go with"]),
        (
            &[",ro,ide=1", ",ro,ide=1"],
            &["place 1 of the IDE controller is taken", "give another ide=N"],
        ),
        (&[",ro,ide"; 5], &["the IDE controller has 4 drives already", "give fewer"]),
    ] {
        let options: Vec<String> =
            words.iter().flat_map(|words| ["--disk".into(), with(words)]).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        check_options_refused("ide-kernel", &options, parts);
    }
    let missing = with("-that-is-not-there,ide");
    check_options_refused("ide-kernel", &["--disk", &missing], &["No such file"]);
}

#[test]
fn networks_that_can_not_be_had() {
    check_options_refused(
        "net-stream",
        &["--net", "stream=/nowhere/at/all.sock"],
        &["cannot connect the network to /nowhere/at/all.sock", "start what listens there"],
    );
    check_options_refused("net-no-bus", &["--net", "user", "--vmbus", "off"], &["--net", "VMBus"]);
    check_options_refused(
        "ic-no-bus",
        &["--ic", "heartbeat", "--vmbus", "off"],
        &["--ic", "VMBus"],
    );
    let folder = Folder::new("net-user");
    let kernel = folder.file("good-kernel", ELF);
    let without_programs = Command::new(env!("CARGO_BIN_EXE_hypervisor-host"))
        .args([OsStr::new("run"), OsStr::new("--kernel"), kernel.as_os_str()])
        .args(["--net", "user"])
        .env("PATH", &folder.0)
        .output()
        .unwrap();
    check_refused(&without_programs, &["passt", "install the Debian package passt"]);
}

#[test]
fn a_reader_that_is_gone_changes_no_exit_code() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut host = Command::new(env!("CARGO_BIN_EXE_hypervisor-host"));
    let status = host.args(["run", "--kernel", "/nonexistent"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2), "{status}");
}

#[test]
fn a_report_that_can_not_be_written() {
    let folder = Folder::new("report");
    let nowhere = folder.0.join("missing-folder").join("report.json");
    for path in [&nowhere, &folder.0] {
        let path = path.to_string_lossy();
        let parts = ["report", &path, "--report"];
        check_options_refused("report-kernel", &["--report", &path], &parts);
    }
}

#[test]
fn a_report_in_the_kernels_place() {
    let folder = Folder::new("report-is-kernel");
    let kernel = folder.file("kernel", ELF);
    let path = kernel.to_string_lossy();
    check_refused(&run(&kernel, &["--report", &path]), &["report", "it is the machine's kernel"]);
    assert_eq!(fs::read(&kernel).unwrap(), ELF, "the kernel is still there");
}

#[test]
fn an_earlier_report_outlives_a_machine_that_can_not_be_built() {
    let folder = Folder::new("report-stays");
    let report = folder.file("report.json", b"{}");
    let no_kvm = ["--report", &report.to_string_lossy(), "--kvm-device", "/dev/null"];
    check_refused(&run(&folder.file("kernel", ELF), &no_kvm), &["/dev/null"]);
    assert_eq!(fs::read(&report).unwrap(), b"{}");
}

#[test]
fn a_kvm_device_that_is_none() {
    let folder = Folder::new("kvm");
    let file = folder.file("no-device", b"x");
    let missing = folder.0.join("missing");
    for path in [missing.as_path(), &folder.0, &file, Path::new("/dev/null")] {
        let path = path.to_string_lossy();
        check_options_refused("kvm-kernel", &["--kvm-device", &path], &[&path]);
        check_refused(&host(["check", "--kvm-device", &path]), &[&path]);
    }
}

/// Only on a computer that has a `/dev/kvm` which is not enough; elsewhere there is nothing to see.
#[test]
fn a_kvm_without_what_is_needed() {
    if !Path::new("/dev/kvm").exists() || host(["check", "--json"]).status.success() {
        eprintln!("skipped: this computer has no KVM, or one that is enough");
        return;
    }
    check_options_refused("no-features", &[], &["/dev/kvm"]);
}

/// An ELF32 kernel with a Multiboot header at 0x60, and a flat one with its header at 8.
const MULTIBOOT_ELF: &[u8] = include_bytes!("../../tests/fuzz/seeds/loader/multiboot.elf");
const MULTIBOOT_FLAT: &[u8] = include_bytes!("../../tests/fuzz/seeds/loader/multiboot.flat");

/// `image` with another 32-bit field, and the checksum of its Multiboot header at `header` right.
fn multiboot(image: &[u8], header: usize, offset: usize, value: u32) -> Vec<u8> {
    let mut image = image.to_vec();
    image[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let checksum = field(header).wrapping_add(field(header + 4)).wrapping_neg();
    image[header + 8..header + 12].copy_from_slice(&checksum.to_le_bytes());
    image
}

#[test]
fn a_multiboot_kernel_that_asks_too_much_or_is_malformed() {
    let folder = Folder::new("multiboot");
    for (name, image, part) in [
        (
            "no-header",
            multiboot(MULTIBOOT_ELF, 0x70, 0x60, 0),
            "32-bit ELF file without a Multiboot",
        ),
        ("video", multiboot(MULTIBOOT_ELF, 0x60, 0x64, 4), "video mode"),
        ("flags", multiboot(MULTIBOOT_ELF, 0x60, 0x64, 0x100), "features 0x0100"),
        (
            "tables",
            multiboot(MULTIBOOT_ELF, 0x60, 0x40, 0xF_0000),
            "reserved (0x90000 to 0x100000)",
        ),
        ("entry", multiboot(MULTIBOOT_ELF, 0x60, 0x18, 0x20_0000), "entry point 0x200000"),
        ("ram", multiboot(MULTIBOOT_ELF, 0x60, 0x48, 0xFFFF_0000), "outside the guest's RAM"),
        ("load-end", multiboot(MULTIBOOT_FLAT, 8, 28, 0x20_0000), "address fields"),
    ] {
        check_kernel_refused(&folder.file(name, &image), &["--memory", "16M"], &[part]);
    }
    let kernel = folder.file("good", MULTIBOOT_ELF);
    check_kernel_refused(&kernel, &["--boot", "linux64"], &["32-bit image"]);
    check_kernel_refused(&kernel, &["--boot", "pvh"], &["no PVH entry"]);
    let pvh = folder.file("pvh", ELF);
    check_kernel_refused(&pvh, &["--boot", "multiboot"], &["no Multiboot header"]);
}

#[test]
fn modules_that_are_not_there_too_large_or_of_no_use() {
    let folder = Folder::new("modules");
    let kernel = folder.file("kernel", MULTIBOOT_ELF);
    let good = folder.file("module", b"x");
    let with_text = format!("{},text", good.display());
    let missing = run(&kernel, &["--module", "nowhere/module,text"]);
    check_refused(&missing, &["module 'nowhere/module'", "no such file"]);
    let large = folder.file("large", &vec![0; 2 << 20]);
    let options = ["--memory", "2M", "--module", large.to_str().unwrap()];
    check_refused(&run(&kernel, &options), &["module", "don't fit"]);
    let other = run(&folder.file("pvh", ELF), &["--module", &with_text]);
    check_refused(&other, &["module", "only Multiboot kernels"]);
    let options = ["--report", good.to_str().unwrap(), "--module", &with_text];
    check_refused(&run(&kernel, &options), &["kernel, initrd or module"]);
}

#[test]
fn disks_that_can_not_be_used() {
    let folder = Folder::new("disks");
    let kernel = folder.file("kernel", ELF);
    let disk = folder.file("disk", &[0; 4096]);
    let empty = folder.file("empty", b"");
    let partial = folder.file("partial", &[0; 1000]);
    let named = |path: &Path, options: &str| format!("{}{options}", path.display());
    let missing = named(&folder.0.join("nothing"), "");
    for (disks, parts) in [
        (&[missing][..], &["nothing", "No such file", "check the path"][..]),
        (&[named(&folder.0, ",ro")], &["it is a directory"]),
        (&[named(Path::new("/dev/null"), "")], &["a character device"]),
        (&[named(&empty, "")], &["empty", "truncate -s 1G"]),
        (&[named(&partial, "")], &["1000 bytes", "truncate -s %512"]),
        (&[named(&disk, ",lun=7,ro"), named(&disk, ",ro,lun=7")], &["number 7 already"]),
        (&[named(&disk, ""), named(&disk, "")], &["another machine or disk uses it"]),
        (&[named(&disk, ",lun=64")], &["N from 0 to 63"]),
        (&[named(&disk, ",lun=x")], &["\"x\"", "N from 0 to 63"]),
        (&[named(&disk, ",writable")], &["writable", "give ro, lun=N, cow, cow=FILE"]),
        (&[named(&disk, ",ro,cow")], &["only one of ro, cow"]),
        (&[named(&disk, ",cow=")], &["cow="]),
        (&[",ro".into()], &["names no file"]),
        (&[named(&disk, &format!(",cow={}", partial.display()))], &["the overlay", "no overlay"]),
    ] {
        let options: Vec<&str> = disks.iter().flat_map(|disk| ["--disk", disk]).collect();
        check_refused(&run(&kernel, &options), parts);
    }
    assert_eq!(fs::read(&partial).unwrap(), [0; 1000], "what is no overlay is left alone");
}

#[test]
fn a_disk_without_a_bus_or_as_a_report() {
    let folder = Folder::new("disk-places");
    let kernel = folder.file("kernel", ELF);
    let disk = folder.file("disk", &[0; 4096]);
    let disk = disk.to_str().unwrap();
    let no_bus = run(&kernel, &["--disk", disk, "--vmbus", "off"]);
    check_refused(&no_bus, &["no VMBus", "leave out --disk"]);
    let report = run(&kernel, &["--disk", disk, "--report", disk]);
    check_refused(&report, &["it is a disk of the machine"]);
    check_refused(&run(&kernel, &["--disk-engine", "fast"]), &["io-uring, threads"]);
}

#[test]
fn a_disk_that_may_not_be_read() {
    let folder = Folder::new("disk-permissions");
    let kernel = folder.file("kernel", ELF);
    let disk = folder.file("disk", &[0; 4096]);
    fs::set_permissions(&disk, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if File::open(&disk).is_ok() {
        eprintln!("SKIP: this user may read everything");
        return;
    }
    let output = run(&kernel, &["--disk", disk.to_str().unwrap()]);
    check_refused(&output, &["Permission denied", "check its permissions"]);
}
