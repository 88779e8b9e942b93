//! Crash registers: P0 to P4 and CTL, by which a guest tells that it dies (TLFS *Guest Crash Enlightenment
//! Interface*).
//!
//! They are kept here and not in KVM, which hands on neither the parameters nor that there is a message.

use std::io;
use std::sync::{Mutex, PoisonError};

use hv_abi::msr::{
    HV_CRASH_CTL_CRASH_MESSAGE, HV_CRASH_CTL_CRASH_NOTIFY, HV_X64_MSR_CRASH_CTL,
    HV_X64_MSR_CRASH_P0, HV_X64_MSR_CRASH_P4,
};
use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::GeneralProtection;

/// Most bytes of a message (TLFS `HV_CRASH_MAXIMUM_MESSAGE_SIZE`).
const MESSAGE_MAX_BYTES: u64 = 4096;
/// Most crashes that are kept; a guest that tells more loses the later ones.
const MAX_CRASHES: usize = 8;

/// A crash that the guest told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashReport {
    /// The VP that told it.
    pub vp: u32,
    /// P0 to P4, whose meaning is the guest's.
    pub parameters: [u64; 5],
    /// The message, if there is one; at most 4096 bytes of the guest's.
    pub message: Option<String>,
}

impl CrashReport {
    /// For a terminal: no control characters but line ends.
    pub fn for_person(&self) -> String {
        let [p0, p1, p2, p3, p4] = self.parameters;
        let vp = self.vp;
        let mut text = format!(
            "the guest reports a crash on VP {vp}: P0 {p0:#x}, P1 {p1:#x}, P2 {p2:#x}, P3 {p3:#x}, P4 {p4:#x}"
        );
        for line in self.message.iter().flat_map(|message| message.lines()) {
            text.push_str("\n  ");
            text.extend(line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }));
        }
        text
    }
}

/// Crashes told so far, and a descriptor that becomes readable with each.
#[derive(Debug)]
pub struct Crashes {
    told: Mutex<Vec<CrashReport>>,
    event: EventFd,
}

impl Crashes {
    /// None yet.
    ///
    /// # Errors
    /// The operating system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { told: Mutex::default(), event: EventFd::new(libc::EFD_NONBLOCK)? })
    }

    /// Keeps a crash, unless there are too many; tells whether it did.
    pub fn tell(&self, crash: CrashReport) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_CRASHES {
            return false;
        }
        told.push(crash);
        // Fails only if the counter overflows, and there are few.
        let _ = self.event.write(1);
        true
    }

    /// All that are kept.
    pub fn told(&self) -> Vec<CrashReport> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Becomes readable when the guest tells a crash.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

/// The registers of a machine.
#[derive(Debug, Default)]
pub struct CrashRegisters([u64; 5]);

impl CrashRegisters {
    /// A read; CTL tells what can be told.
    ///
    /// # Errors
    /// It is no crash register.
    pub fn read(&self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            HV_X64_MSR_CRASH_CTL => Ok(HV_CRASH_CTL_CRASH_NOTIFY | HV_CRASH_CTL_CRASH_MESSAGE),
            _ => parameter(msr).and_then(|at| self.0.get(at).copied()).ok_or(GeneralProtection),
        }
    }

    /// A write by VP `vp`; gives the crash if one is told.
    ///
    /// # Errors
    /// It is no crash register.
    pub fn write(
        &mut self,
        vp: u32,
        msr: u32,
        value: u64,
        memory: &GuestMemoryMmap,
    ) -> Result<Option<CrashReport>, GeneralProtection> {
        if msr != HV_X64_MSR_CRASH_CTL {
            let at = parameter(msr).ok_or(GeneralProtection)?;
            *self.0.get_mut(at).ok_or(GeneralProtection)? = value;
            return Ok(None);
        }
        if value & HV_CRASH_CTL_CRASH_NOTIFY == 0 {
            return Ok(None);
        }
        let [.., address, length] = self.0;
        let has_message = value & HV_CRASH_CTL_CRASH_MESSAGE != 0;
        let message = has_message.then(|| read_message(memory, address, length)).flatten();
        Ok(Some(CrashReport { vp, parameters: self.0, message }))
    }
}

fn parameter(msr: u32) -> Option<usize> {
    let index = msr.checked_sub(HV_X64_MSR_CRASH_P0)?;
    (msr <= HV_X64_MSR_CRASH_P4).then_some(index as usize)
}

/// The text at `address`, as far as it is RAM; zeros at its end don't count.
fn read_message(memory: &GuestMemoryMmap, address: u64, length: u64) -> Option<String> {
    let mut bytes = vec![0; length.min(MESSAGE_MAX_BYTES) as usize];
    memory.read_slice(&mut bytes, GuestAddress(address)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFY: u64 = 1 << 63;
    const MESSAGE: u64 = 1 << 62;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
    }

    /// P0 to P4, then CTL.
    fn tell(parameters: [u64; 5], control: u64, memory: &GuestMemoryMmap) -> Option<CrashReport> {
        let mut registers = CrashRegisters::default();
        for (msr, value) in (0x4000_0100..).zip(parameters) {
            assert_eq!(registers.write(3, msr, value, memory), Ok(None));
            assert_eq!(registers.read(msr), Ok(value));
        }
        registers.write(3, 0x4000_0105, control, memory).unwrap()
    }

    #[test]
    fn a_crash_has_its_parameters_and_its_message() {
        let memory = memory();
        memory.write_slice(b"out of luck\n\0", GuestAddress(0x1000)).unwrap();
        let crash = tell([1, 2, 3, 0x1000, 13], NOTIFY | MESSAGE, &memory).unwrap();
        assert_eq!((crash.vp, crash.parameters), (3, [1, 2, 3, 0x1000, 13]));
        assert_eq!(crash.message.as_deref(), Some("out of luck\n"));
        assert!(tell([1, 2, 3, 4, 5], NOTIFY, &memory).unwrap().message.is_none());
    }

    #[test]
    fn only_notify_tells_a_crash() {
        for control in [0, MESSAGE, 1] {
            assert_eq!(tell([0; 5], control, &memory()), None);
        }
    }

    #[test]
    fn what_can_be_told_is_read_from_the_control() {
        assert_eq!(CrashRegisters::default().read(0x4000_0105), Ok(NOTIFY | MESSAGE));
        for other in [0x4000_00FF, 0x4000_0106, 0] {
            assert_eq!(CrashRegisters::default().read(other), Err(GeneralProtection));
        }
    }

    #[test]
    fn hostile_messages_are_bounded_and_harmless() {
        let memory = memory();
        memory.write_slice(&[0xFF; 0x2000], GuestAddress(0)).unwrap();
        let long = tell([0, 0, 0, 0, u64::MAX], NOTIFY | MESSAGE, &memory).unwrap();
        assert_eq!(long.message.unwrap().chars().count(), 4096);
        for outside in [0x4000, 0x3FFF, u64::MAX] {
            let crash = tell([0, 0, 0, outside, 16], NOTIFY | MESSAGE, &memory).unwrap();
            assert_eq!(crash.message, None, "{outside:#x}");
        }
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let message = Some("\u{1b}[2Jwiped\r\nnext\u{9b}".to_owned());
        let text = CrashReport { vp: 0, parameters: [0; 5], message }.for_person();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("wiped") && text.contains("\n  next"), "{text}");
    }

    #[test]
    fn a_guest_that_crashes_without_end_fills_a_bounded_list() {
        let crashes = Crashes::new().unwrap();
        let crash = CrashReport { vp: 0, parameters: [0; 5], message: None };
        let kept = (0..100).filter(|_| crashes.tell(crash.clone())).count();
        assert_eq!((kept, crashes.told().len()), (MAX_CRASHES, MAX_CRASHES));
        assert_eq!(crashes.event().read().unwrap(), MAX_CRASHES as u64);
    }
}
