//! Work whose costs the host counts: the guest puts marks around it.
//!
//! As good as Linux can do it: many reads at a time by the kernel's asynchronous I/O, many packets with one call.
//!
//! - [`blocks`]: reads and writes
//! - [`frames`]: packets, and frames both ways
//! - [`watch`]: counts beside a QEMU when its guest makes a mark

#![expect(unsafe_code, reason = "I/O ports")]

pub mod blocks;
pub mod frames;
pub mod watch;

use std::arch::asm;
use std::arch::x86_64::__cpuid;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hv_abi::host::{
    ENL_CPUID_BASE, ENL_CPUID_FEATURES, ENL_PORT_COUNT, ENL_PORT_EXIT, ENL_PORT_MARK,
    ENL_SIGNATURE, HostFeatures, Mark,
};

/// The second serial port, which `compare/lab.sh` gives to QEMU's guest.
const SERIAL: &str = "/dev/ttyS1";
/// Time that whoever counts has to see a byte.
const SERIAL_WAIT: Duration = Duration::from_millis(400);

/// Says that this moment is a mark.
pub struct Marker(Way);

enum Way {
    /// Our host's port: it counts before it goes on.
    OurHost(u16),
    /// A byte for somebody beside QEMU, who counts a moment later.
    Serial(File),
}

impl Marker {
    /// # Errors
    ///
    /// Nobody takes marks, or this may not use I/O ports.
    pub fn find() -> Result<Self> {
        let Some((features, base)) = our_host() else {
            return Self::find_serial();
        };
        if !features.contains(HostFeatures::MARK) {
            bail!("the host takes no marks");
        }
        allow(base, ENL_PORT_COUNT)?;
        Ok(Self(Way::OurHost(base + ENL_PORT_MARK)))
    }

    /// A serial port and not the bare port of a debug console: in the lab, whose AMD-V is software, QEMU's guests lose their programs' right to
    /// use ports after the first system management interrupt.
    fn find_serial() -> Result<Self> {
        let port = OpenOptions::new().write(true).open(SERIAL).ok();
        let port = port.with_context(|| {
            format!("nobody takes marks here: neither our host nor a QEMU behind {SERIAL}")
        })?;
        Ok(Self(Way::Serial(port)))
    }

    /// Puts marks around `body`; the time that it took in units of 100 ns.
    ///
    /// # Errors
    ///
    /// Those of `body`.
    pub fn around(&self, body: impl FnOnce() -> Result<()>) -> Result<u128> {
        self.mark(Mark::MEASURE_BEGIN)?;
        let begun = Instant::now();
        body()?;
        let elapsed = begun.elapsed();
        self.mark(Mark::MEASURE_END)?;
        Ok(elapsed.as_nanos() / 100)
    }

    fn mark(&self, mark: Mark) -> Result<()> {
        match &self.0 {
            &Way::OurHost(port) => {
                // SAFETY: `find` made sure that the port is our host's; it takes a snapshot of its counters and changes nothing here.
                unsafe {
                    asm!("out dx, eax", in("dx") port, in("eax") mark.0, options(nomem, nostack, preserves_flags));
                }
            }
            Way::Serial(port) => {
                let mut port = port;
                port.write_all(&[mark.0 as u8]).with_context(|| format!("no mark by {SERIAL}"))?;
                std::thread::sleep(SERIAL_WAIT);
            }
        }
        Ok(())
    }
}

/// What our host has, and the first of its ports; `None` on any other.
fn our_host() -> Option<(HostFeatures, u16)> {
    let leaf = __cpuid(ENL_CPUID_BASE);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    let features = __cpuid(ENL_CPUID_FEATURES);
    let base =
        u16::try_from(features.ebx).ok().filter(|_| signature.as_flattened() == ENL_SIGNATURE);
    Some((HostFeatures::from_bits_truncate(features.eax), base?))
}

/// Ends the machine with a code, when all that was printed is out: by our host's port; elsewhere the machine
/// is switched off, and nobody gets the code.
///
/// # Errors
///
/// This may not do so.
pub fn end_machine(code: u8) -> Result<()> {
    // SAFETY: waits for the console, and touches nothing. Where there is none, there is nothing to wait for.
    let _no_console = unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    let Some((_, base)) = our_host() else {
        // SAFETY: switches the machine off, when all disks have what was written.
        unsafe { libc::reboot(libc::RB_POWER_OFF) };
        bail!("cannot switch off: {}", std::io::Error::last_os_error());
    };
    let port = base + ENL_PORT_EXIT;
    allow(port, 4)?;
    // SAFETY: the port is our host's, and ends the machine.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") u32::from(code), options(nomem, nostack, preserves_flags));
    }
    Ok(())
}

fn allow(port: u16, count: u16) -> Result<()> {
    // SAFETY: changes nothing but which ports this thread may use.
    let denied = unsafe { libc::ioperm(port.into(), count.into(), 1) };
    if denied != 0 {
        bail!("no use of I/O ports: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Marks around nothing: what marks cost by themselves.
///
/// # Errors
///
/// There are no marks.
pub fn nothing() -> Result<u128> {
    Marker::find()?.around(|| Ok(()))
}
