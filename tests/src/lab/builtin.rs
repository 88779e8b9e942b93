//! Jobs that need no program: their first word begins with `@`.
//!
//! - `@kvm-caps`: what `/dev/kvm` offers, one `name value` on each line; code 1 if there is none

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;

use super::job::{Exit, Stream};
use super::sys;

// Linux include/uapi/linux/kvm.h
const KVM_GET_API_VERSION: u32 = 0xae00;
const KVM_CHECK_EXTENSION: u32 = 0xae03;
const EXTENSIONS: [(&str, u32); 17] = [
    ("nr_vcpus", 9),
    ("hyperv", 44),
    ("tsc_control", 60),
    ("max_vcpus", 66),
    ("split_irqchip", 121),
    ("hyperv_synic", 123),
    ("x86_disable_exits", 143),
    ("hyperv_synic2", 148),
    ("hyperv_vp_index", 149),
    ("hyperv_eventfd", 154),
    ("hyperv_tlbflush", 155),
    ("hyperv_send_ipi", 161),
    ("hyperv_cpuid", 167),
    ("x86_user_space_msr", 188),
    ("x86_msr_filter", 189),
    ("hyperv_enforce_cpuid", 199),
    ("binary_stats_fd", 203),
];

/// Runs the built-in of this name, if that is what it is.
pub(super) fn run(name: &str, sink: &mut dyn FnMut(Stream, &[u8])) -> Option<Exit> {
    match name {
        "@kvm-caps" => Some(match kvm_capabilities() {
            Ok(text) => {
                sink(Stream::Stdout, text.as_bytes());
                Exit::Exited(0)
            }
            Err(error) => {
                sink(Stream::Stderr, format!("cannot open /dev/kvm: {error}\n").as_bytes());
                Exit::Exited(1)
            }
        }),
        _ if name.starts_with('@') => Some(Exit::NotStarted(format!("no built-in '{name}'"))),
        _ => None,
    }
}

fn kvm_capabilities() -> io::Result<String> {
    let device: File = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    let version = sys::ioctl_number(&device, KVM_GET_API_VERSION, 0)?;
    let mut text = format!("api_version {version}\n");
    for (name, number) in EXTENSIONS {
        let value = sys::ioctl_number(&device, KVM_CHECK_EXTENSION, number.into())?;
        let _infallible = writeln!(text, "{name} {value}");
    }
    Ok(text)
}
