//! The few system calls that the lab and its agent need and the standard library lacks.

#![expect(unsafe_code, reason = "system calls by way of libc")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Lets the kernel kill the child when the thread that starts it ends, however it ends.
pub(super) fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let hook = move || {
        // SAFETY: prctl with these arguments touches no memory of ours.
        check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }))?;
        // The parent may have died before the call above.
        // SAFETY: getppid has no preconditions.
        let now = unsafe { libc::getppid() };
        if u32::try_from(now) == Ok(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    };
    // SAFETY: the hook makes only async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(hook) }
}

/// Sends a signal to every process of a group; one that is gone is no error.
pub(super) fn signal_group(leader: u32, signal: libc::c_int) {
    // 0 and 1 would mean "our own group" and "everybody".
    let Some(group) = i32::try_from(leader).ok().filter(|leader| *leader > 1) else { return };
    // SAFETY: kill touches no memory.
    let _gone_is_fine = unsafe { libc::kill(-group, signal) };
}

/// Mounts a file system of the kernel's own, such as `proc`.
pub(super) fn mount(kind: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: the three strings are terminated and live through the call; the null data is allowed.
    let result =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    check(libc::c_long::from(result)).map(|_| ())
}

/// Loads a kernel module from an open file.
pub(super) fn load_module(module: &File, parameters: &CStr) -> io::Result<()> {
    let flags: libc::c_int = 0;
    // SAFETY: the descriptor is open and the string is terminated; both live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), parameters.as_ptr(), flags)
    };
    check(result).map(|_| ())
}

/// Gives the calling thread the highest of the ordinary priorities.
pub(super) fn raise_priority() {
    // SAFETY: setpriority touches no memory; "0" is the calling thread.
    let _best_effort = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// An ioctl whose argument is a plain number, as `KVM_CHECK_EXTENSION`.
pub(super) fn ioctl_number(
    device: &File,
    request: u32,
    argument: libc::c_ulong,
) -> io::Result<libc::c_long> {
    let request = libc::c_ulong::from(request);
    // SAFETY: the requests used here (see the callers) take a number, not a pointer.
    check(libc::c_long::from(unsafe { libc::ioctl(device.as_raw_fd(), request as _, argument) }))
}

/// A C string from text that may hold anything; a zero byte ends it early.
pub(super) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().take_while(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
