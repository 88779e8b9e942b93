//! Wraps a piece of code into an ELF file, runs it, and collects what it printed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hypervisor_host::check::KVM_DEVICE;
use hypervisor_host::config::{CpuList, MachineConfig, Policy, RamSize, SpinThreshold, VpCount};
use hypervisor_host::emulated::Output;
use hypervisor_host::hyperv::features::Offered;
use hypervisor_host::loader::BootProtocolChoice;
use hypervisor_host::machine;
use hypervisor_host::report::Report;
use hypervisor_host::vsp::ic::IcChoice;

/// Where guests' code is loaded and entered.
pub(crate) const LOAD_ADDRESS: u64 = 0x20_0000;

/// What differs between the machines of these tests.
pub(crate) struct Machine {
    pub(crate) policy: Policy,
    pub(crate) spin_threshold: SpinThreshold,
    pub(crate) timeout: Duration,
    pub(crate) hyperv: bool,
    pub(crate) offered: Offered,
    pub(crate) test_devices: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            policy: Policy::None,
            spin_threshold: SpinThreshold::default(),
            timeout: Duration::from_secs(20),
            hyperv: true,
            offered: Offered::default(),
            test_devices: false,
        }
    }
}

/// What became of a machine.
pub(crate) struct Ran {
    pub(crate) report: Report,
    pub(crate) text: String,
}

/// Runs a guest with one VP and 8 MiB of RAM.
pub(crate) fn run(code: &[u8], machine: Machine) -> Ran {
    run_image(&elf(code), BootProtocolChoice::Linux64, machine)
}

/// As [`run`], in 32-bit mode by Multiboot.
pub(crate) fn run_multiboot(code: &[u8], machine: Machine) -> Ran {
    run_image(&flat(code), BootProtocolChoice::Multiboot, machine)
}

fn run_image(image: &[u8], boot: BootProtocolChoice, machine: Machine) -> Ran {
    let kernel = TemporaryFile::new(image);
    let config = MachineConfig {
        kernel: kernel.0.clone(),
        initrd: None,
        modules: Vec::new(),
        cmdline: String::new(),
        vps: VpCount::new(1).unwrap(),
        ram: RamSize::new(8 << 20).unwrap(),
        cpus: CpuList::default(),
        policy: machine.policy,
        spin_threshold: machine.spin_threshold,
        boot,
        hyperv: machine.hyperv,
        offered: machine.offered,
        vmbus: None,
        vmbus_newest: Default::default(),
        report: None,
        timeout: Some(machine.timeout),
        test_devices: machine.test_devices,
        disks: Vec::new(),
        disk_engine: Default::default(),
        nets: Vec::new(),
        ic: Some(IcChoice::OFF),
        control: None,
        verbose: false,
        kvm_device: KVM_DEVICE.into(),
    };
    let text = Text::default();
    let report = machine::run(&config, &Output::new(text.clone())).unwrap();
    let bytes = text.0.lock().unwrap().clone();
    Ran { report, text: String::from_utf8(bytes).unwrap() }
}

/// An ELF executable with one segment (System V ABI, chapters 4 and 5).
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS_BYTES: u64 = 64 + 56;
    let mut file = Vec::new();
    file.extend(b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2_u16, 62].iter().flat_map(|half| half.to_le_bytes())); // ET_EXEC, EM_X86_64
    file.extend(1_u32.to_le_bytes());
    file.extend([LOAD_ADDRESS, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    file.extend([1_u32, 7].iter().flat_map(|half| half.to_le_bytes())); // PT_LOAD, RWX
    let bytes = code.len() as u64;
    let segment = [HEADERS_BYTES, LOAD_ADDRESS, LOAD_ADDRESS, bytes, bytes, 1];
    file.extend(segment.iter().flat_map(|word| word.to_le_bytes()));
    assert_eq!(file.len() as u64, HEADERS_BYTES);
    file.extend(code);
    file
}

/// A flat image: a Multiboot header with address fields, then code (Multiboot Specification 0.6.96, §3.1).
fn flat(code: &[u8]) -> Vec<u8> {
    const MAGIC: u32 = 0x1BAD_B002;
    const ADDRESSES: u32 = 1 << 16;
    const HEADER_BYTES: u32 = 32;
    let load = LOAD_ADDRESS as u32;
    let checksum = MAGIC.wrapping_add(ADDRESSES).wrapping_neg();
    let header = [MAGIC, ADDRESSES, checksum, load, load, 0, 0, load + HEADER_BYTES];
    let header = header.iter().flat_map(|field| field.to_le_bytes());
    header.chain(code.iter().copied()).collect()
}

struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(content: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hypervisor-host-native-{}-{number}.elf", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
