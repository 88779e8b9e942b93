//! Runs a VP until its next exit, and tells the exit in owned form.
//!
//! `kvm-ioctls` lends out parts of the shared `kvm_run` page, leaves out the width of port accesses and
//! does not decode `KVM_EXIT_HYPERV`. Here an exit is copied out of that page; the answers are written
//! back by the functions below. All access to the page's unions is in this file.
#![expect(unsafe_code, reason = "unions in the kvm_run page")]

use kvm_bindings::{
    KVM_EXIT_HYPERV_HCALL, KVM_EXIT_HYPERV_SYNIC, KVM_EXIT_IO_IN, KVM_SYSTEM_EVENT_CRASH,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::hyperv::GeneralProtection;
use crate::hyperv::synic::Registers;
use crate::stats::ExitKind;

/// Why a VP stopped running guest code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// An access to I/O ports; the bytes are in [`port_data`].
    Port(PortAccess),
    /// A read outside RAM, at this address; it was answered with all ones. [`mmio_data`] may answer otherwise.
    MmioRead(u64),
    /// A write outside RAM, at this address; the bytes are in [`mmio_data`].
    MmioWrite(u64),
    /// A filtered MSR is read; [`answer_msr_read`] answers.
    MsrRead(u32),
    /// A filtered MSR is written; [`answer_msr_write`] answers.
    MsrWrite(u32, u64),
    /// A hypercall with this input value and its two parameters; [`answer_hypercall`] answers.
    Hypercall(u64, [u64; 2]),
    /// The SynIC changed.
    Synic(Registers),
    /// A signal, or nothing at all.
    Interrupted,
    /// The guest wants a reset, a power-off, or tells its crash.
    System(SystemEvent),
    /// A triple fault.
    Shutdown,
    /// KVM can't go on.
    Error(String),
    /// An exit that this machine never asked for.
    Other(u32),
}

/// An access to I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Bytes of each access, 1, 2 or 4. String instructions make several.
    pub width: usize,
    /// A read.
    pub read: bool,
}

/// What `KVM_EXIT_SYSTEM_EVENT` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemEvent {
    /// `HV_X64_MSR_RESET`.
    Reset,
    /// Power off.
    PowerOff,
    /// `HV_X64_MSR_CRASH_CTL`.
    Crash,
    /// Anything else.
    Other(u32),
}

impl Exit {
    /// What it counts as.
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Port(PortAccess { read: true, .. }) => ExitKind::PortRead,
            Self::Port(_) => ExitKind::PortWrite,
            Self::MmioRead(_) => ExitKind::MmioRead,
            Self::MmioWrite(_) => ExitKind::MmioWrite,
            Self::MsrRead(_) => ExitKind::MsrRead,
            Self::MsrWrite(..) => ExitKind::MsrWrite,
            Self::Hypercall(..) => ExitKind::Hypercall,
            Self::Synic(_) => ExitKind::Synic,
            Self::Interrupted => ExitKind::Interrupted,
            Self::System(_) => ExitKind::SystemEvent,
            Self::Shutdown => ExitKind::Shutdown,
            Self::Error(_) => ExitKind::Error,
            Self::Other(_) => ExitKind::Other,
        }
    }
}

/// Enters the guest and comes back with an exit.
pub fn run(vcpu: &mut VcpuFd) -> Exit {
    let exit = match vcpu.run() {
        Ok(exit) => exit,
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
            return Exit::Interrupted;
        }
        Err(error) => return Exit::Error(format!("KVM_RUN failed: {error}")),
    };
    match exit {
        VcpuExit::MmioRead(address, data) => {
            data.fill(0xFF);
            Exit::MmioRead(address)
        }
        VcpuExit::MmioWrite(address, _) => Exit::MmioWrite(address),
        VcpuExit::X86Rdmsr(read) => Exit::MsrRead(read.index),
        VcpuExit::X86Wrmsr(write) => Exit::MsrWrite(write.index, write.data),
        VcpuExit::Intr => Exit::Interrupted,
        VcpuExit::SystemEvent(kind, _) => Exit::System(match kind {
            KVM_SYSTEM_EVENT_RESET => SystemEvent::Reset,
            KVM_SYSTEM_EVENT_SHUTDOWN => SystemEvent::PowerOff,
            KVM_SYSTEM_EVENT_CRASH => SystemEvent::Crash,
            other => SystemEvent::Other(other),
        }),
        VcpuExit::Shutdown => Exit::Shutdown,
        VcpuExit::FailEntry(reason, cpu) => Exit::Error(format!(
            "the processor refused to enter the guest: reason {reason:#x} on CPU {cpu}"
        )),
        VcpuExit::MemoryFault { gpa, size, .. } => {
            Exit::Error(format!("no memory behind {size} bytes at guest address {gpa:#x}"))
        }
        VcpuExit::IoIn(..) | VcpuExit::IoOut(..) => port_access(vcpu),
        VcpuExit::Hyperv => hyperv(vcpu),
        VcpuExit::InternalError => internal_error(vcpu),
        _ => Exit::Other(vcpu.get_kvm_run().exit_reason),
    }
}

fn port_access(vcpu: &mut VcpuFd) -> Exit {
    // SAFETY: the exit is KVM_EXIT_IO, for which the kernel filled `io`; all bit patterns are valid.
    let io = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.io };
    let read = u32::from(io.direction) == KVM_EXIT_IO_IN;
    Exit::Port(PortAccess { port: io.port, width: usize::from(io.size).max(1), read })
}

fn hyperv(vcpu: &mut VcpuFd) -> Exit {
    // SAFETY: the exit is KVM_EXIT_HYPERV, for which the kernel filled `hyperv`.
    let exit = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.hyperv };
    match exit.type_ {
        KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: this type says that `hcall` is filled; all bit patterns are valid.
            let call = unsafe { exit.u.hcall };
            Exit::Hypercall(call.input, call.params)
        }
        KVM_EXIT_HYPERV_SYNIC => {
            // SAFETY: this type says that `synic` is filled; all bit patterns are valid.
            let synic = unsafe { exit.u.synic };
            Exit::Synic(Registers {
                control: synic.control,
                message_page: synic.msg_page,
                event_page: synic.evt_page,
            })
        }
        other => Exit::Other(other),
    }
}

fn internal_error(vcpu: &mut VcpuFd) -> Exit {
    // SAFETY: the exit is KVM_EXIT_INTERNAL_ERROR, for which the kernel filled `internal`.
    let error = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
    let count = (error.ndata as usize).min(error.data.len());
    let kind = match error.suberror {
        1 => "an instruction that KVM can't emulate",
        2 => "an exception during the delivery of an exception",
        3 => "an exit during the delivery of an exception",
        4 => "an exit that KVM doesn't expect",
        _ => "internal error of KVM",
    };
    Exit::Error(format!("{kind} (suberror {}, {:x?})", error.suberror, &error.data[..count]))
}

/// The bytes of a port access: what the guest wrote, or room for what it reads.
///
/// Only for the exit that [`run`] just gave; empty at any other.
pub fn port_data(vcpu: &mut VcpuFd) -> &mut [u8] {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != kvm_bindings::KVM_EXIT_IO {
        return &mut [];
    }
    // SAFETY: the exit is KVM_EXIT_IO, for which the kernel filled `io`.
    let io = unsafe { run.__bindgen_anon_1.io };
    let bytes = io.count as usize * usize::from(io.size);
    let start = std::ptr::from_mut(run).cast::<u8>().wrapping_add(io.data_offset as usize);
    // SAFETY: the kernel put so many bytes at this offset of the mapped run area, which lives as long
    // as `vcpu`; the borrow of `vcpu` keeps everybody else away from it.
    unsafe { std::slice::from_raw_parts_mut(start, bytes) }
}

/// The bytes of an access outside RAM: what the guest wrote, or room for what it reads.
///
/// Only for the exit that [`run`] just gave; empty at any other.
pub fn mmio_data(vcpu: &mut VcpuFd) -> &mut [u8] {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != kvm_bindings::KVM_EXIT_MMIO {
        return &mut [];
    }
    // SAFETY: the exit is KVM_EXIT_MMIO, for which the kernel filled `mmio`; all bit patterns are valid.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    let count = (mmio.len as usize).min(mmio.data.len());
    &mut mmio.data[..count]
}

/// Answers [`Exit::MsrRead`].
pub fn answer_msr_read(vcpu: &mut VcpuFd, value: Result<u64, GeneralProtection>) {
    let run = vcpu.get_kvm_run();
    // SAFETY: the exit is KVM_EXIT_X86_RDMSR, whose answer lies in `msr`.
    let msr = unsafe { &mut run.__bindgen_anon_1.msr };
    msr.error = value.is_err().into();
    msr.data = value.unwrap_or(0);
}

/// Answers [`Exit::MsrWrite`].
pub fn answer_msr_write(vcpu: &mut VcpuFd, result: Result<(), GeneralProtection>) {
    let run = vcpu.get_kvm_run();
    // SAFETY: the exit is KVM_EXIT_X86_WRMSR, whose answer lies in `msr`.
    let msr = unsafe { &mut run.__bindgen_anon_1.msr };
    msr.error = result.is_err().into();
}

/// Answers [`Exit::Hypercall`] with a result value.
pub fn answer_hypercall(vcpu: &mut VcpuFd, result: u64) {
    let run = vcpu.get_kvm_run();
    // SAFETY: the exit is KVM_EXIT_HYPERV, for which the kernel filled `hyperv`.
    let exit = unsafe { &mut run.__bindgen_anon_1.hyperv };
    exit.u.hcall.result = result;
}
