//! The synthetic interrupt controller: sixteen sources of interrupts on each virtual processor, with messages
//! and event flags behind them.
//!
//! **Theory.** Each source has a vector, one slot for a message in a page, and 2048 flags in another. The hypervisor
//! fills a slot only when it is empty. If it has another message for a full slot, it sets *MessagePending* there, and
//! the guest, once the slot is empty, must ask for the next by writing EOM, or it never comes.
//!
//! **Practice.** [`Synic::enable`] on every processor, [`Synic::connect`] for each source in use, and in the handler
//! of its vector [`Synic::take_message`] and [`EventFlagsPage::take`]; then the end of interrupt, as for any other
//! vector: auto-EOI is never used. A message is copied once, then checked; the slot is free before the message is
//! looked at.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

mod error;
mod flags;
mod message;
#[cfg(all(test, not(loom)))]
mod tests;

pub use error::{Malformed, SynicError};
pub use flags::EventFlagsPage;
pub use message::{Message, MessagePage};

use hv_abi::cpuid::Privileges;
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL,
    HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HV_X64_MSR_SVERSION,
};
use hv_abi::synic::{HV_SCONTROL_ENABLE, HV_SYNIC_SINT_COUNT, HvSynicSint};

use crate::cpu::{Cpu, FIRST_INTERRUPT_VECTOR};
use crate::detect::HyperV;
use crate::memory::Gpa;

/// One of the sixteen sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sint(u8);

impl Sint {
    /// Source `number`; `None` from sixteen on.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < HV_SYNIC_SINT_COUNT { Some(Self(number)) } else { None }
    }

    /// All of them, in order. Source 0 is the hypervisor's own.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..HV_SYNIC_SINT_COUNT as u8).map(Self)
    }

    /// The source's number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }

    const fn msr(self) -> u32 {
        HV_X64_MSR_SINT0 + self.0 as u32
    }
}

/// The pages of one virtual processor's controller, for a kernel to lay in that processor's memory.
#[repr(C)]
#[derive(Debug, Default)]
pub struct SynicPages {
    /// Slots for messages.
    pub messages: MessagePage,
    /// Event flags.
    pub flags: EventFlagsPage,
}

impl SynicPages {
    /// Pages with nothing in them.
    pub const fn new() -> Self {
        Self { messages: MessagePage::new(), flags: EventFlagsPage::new() }
    }
}

/// The enabled controller of the virtual processor that enabled it; only that processor may use the value.
#[derive(Debug, Clone, Copy)]
pub struct Synic<C> {
    cpu: C,
    pages: &'static SynicPages,
}

impl<C: Cpu> Synic<C> {
    /// Turns on the controller of the processor that runs this, with all sources masked.
    ///
    /// # Errors
    ///
    /// [`SynicError`]; the controller is then off.
    ///
    /// # Safety
    ///
    /// `pages` are this processor's alone, lie at guest-physical address `gpa` in a row, and stay there.
    pub unsafe fn enable(
        cpu: C,
        hv: &HyperV,
        pages: &'static SynicPages,
        gpa: Gpa,
    ) -> Result<Self, SynicError> {
        if !hv.privileges().contains(Privileges::SYNIC) {
            return Err(SynicError::NoPrivilege);
        }
        let flags_gpa = gpa.0.checked_add(core::mem::offset_of!(SynicPages, flags) as u64);
        let flags_gpa =
            flags_gpa.filter(|_| gpa.is_page_aligned()).ok_or(SynicError::Misaligned)?;
        core::ptr::from_ref(pages).expose_provenance();
        pages.messages.clear();
        pages.flags.clear();
        let synic = Self { cpu, pages };
        Sint::all().for_each(|sint| synic.mask(sint));
        let enabled = synic
            .enable_page(HV_X64_MSR_SIMP, gpa)
            .and_then(|()| synic.enable_page(HV_X64_MSR_SIEFP, Gpa(flags_gpa)))
            .and_then(|()| synic.switch_on());
        if let Err(error) = enabled {
            synic.disable();
            return Err(error);
        }
        Ok(synic)
    }

    fn enable_page(&self, msr: u32, gpa: Gpa) -> Result<(), SynicError> {
        // Bits 11:1 are reserved and kept as they were.
        let reserved = self.read(msr) & !HV_MSR_PAGE_ADDRESS_MASK;
        self.write(msr, gpa.0 | reserved | HV_MSR_PAGE_ENABLE);
        let register = self.read(msr);
        let taken =
            register & HV_MSR_PAGE_ENABLE != 0 && register & HV_MSR_PAGE_ADDRESS_MASK == gpa.0;
        if taken { Ok(()) } else { Err(SynicError::Refused { msr, register }) }
    }

    fn switch_on(&self) -> Result<(), SynicError> {
        let before = self.read(HV_X64_MSR_SCONTROL);
        self.write(HV_X64_MSR_SCONTROL, before | HV_SCONTROL_ENABLE);
        let register = self.read(HV_X64_MSR_SCONTROL);
        if register & HV_SCONTROL_ENABLE != 0 {
            Ok(())
        } else {
            Err(SynicError::Refused { msr: HV_X64_MSR_SCONTROL, register })
        }
    }

    /// Turns the controller off: sources masked, pages given back.
    pub fn disable(&self) {
        Sint::all().for_each(|sint| self.mask(sint));
        for msr in [HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP] {
            let reserved = self.read(msr) & !HV_MSR_PAGE_ADDRESS_MASK;
            self.write(msr, reserved & !HV_MSR_PAGE_ENABLE);
        }
        let control = self.read(HV_X64_MSR_SCONTROL);
        self.write(HV_X64_MSR_SCONTROL, control & !HV_SCONTROL_ENABLE);
    }

    /// Lets `sint` raise interrupts with `vector`, which is a handler's: it ends them with an EOI.
    ///
    /// # Errors
    ///
    /// [`SynicError::BadVector`] below 32, where vectors are exceptions'; [`SynicError::Refused`] if the register did not take it.
    pub fn connect(&self, sint: Sint, vector: u8) -> Result<(), SynicError> {
        if vector < FIRST_INTERRUPT_VECTOR {
            return Err(SynicError::BadVector);
        }
        let wanted = self.sint(sint).with_vector(vector);
        self.write(sint.msr(), wanted.0);
        let taken = self.sint(sint);
        if taken.vector() == vector && !taken.is_masked() {
            Ok(())
        } else {
            Err(SynicError::Refused { msr: sint.msr(), register: taken.0 })
        }
    }

    /// Keeps `sint` from raising interrupts. Messages still come into its slot.
    pub fn mask(&self, sint: Sint) {
        let register = self.sint(sint);
        // A write may cost an exit more.
        if !register.is_masked() {
            self.write(sint.msr(), register.masked().0);
        }
    }

    /// The source's register.
    pub fn sint(&self, sint: Sint) -> HvSynicSint {
        HvSynicSint(self.read(sint.msr()))
    }

    /// The controller's version.
    pub fn version(&self) -> u64 {
        self.read(HV_X64_MSR_SVERSION)
    }

    /// The controller's pages.
    pub fn pages(&self) -> &'static SynicPages {
        self.pages
    }

    /// Takes the message out of the slot of `sint`, and has the hypervisor bring the next if one waits.
    ///
    /// `None` if the slot is empty. The next message comes with an interrupt of its own, so a handler takes one.
    pub fn take_message(&self, sint: Sint) -> Option<Result<Message, Malformed>> {
        let (message, pending) = self.pages.messages.take(sint.index())?;
        if pending {
            self.end_of_message();
        }
        Some(message)
    }

    /// Has the hypervisor look for messages that wait for a slot, as a poll does.
    pub fn end_of_message(&self) {
        self.write(HV_X64_MSR_EOM, 0);
    }

    fn read(&self, msr: u32) -> u64 {
        // SAFETY: `enable` checked the privilege: the register exists; reading it has no effect.
        unsafe { self.cpu.rdmsr(msr) }
    }

    fn write(&self, msr: u32, value: u64) {
        // SAFETY: the register exists. Pages named are shared atomics of this processor (`enable`'s contract); a
        // vector is valid or masked.
        unsafe { self.cpu.wrmsr(msr, value) }
    }
}
