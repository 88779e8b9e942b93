//! Virtual processors: threads that do what KVM and an interrupt handler would do.

#![expect(unsafe_code, reason = "the SynIC's pages lie in guest memory")]

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::{HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP};
use hv_abi::vmbus::VMBUS_MESSAGE_TYPE;
use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::synic::{Sint, Synic as GuestSynic, SynicPages};
use hv_enlightenments::{Cpu, Gpa, HyperV};
use hypervisor_host::hyperv::synic::{Registers, Synic};

use crate::CurrentBus;
use crate::lines::Lines;
use crate::ram::Ram;

/// What a poisoned lock guards is as good as ever in these tests: a panic has failed one already.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All virtual processors of a machine. Dropping it ends their threads.
pub(crate) struct Vps {
    lines: Lines,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Vps {
    pub(crate) fn start(synic: &Arc<Synic>, ram: &Ram, lines: &Lines, bus: &CurrentBus) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..lines.count()).map(|index| {
            let guest = enable(synic, ram, lines, index);
            let vp = Vp {
                index,
                guest,
                synic: synic.clone(),
                lines: lines.clone(),
                bus: bus.clone(),
                stop: stop.clone(),
            };
            let builder = std::thread::Builder::new().name(format!("vp{index}"));
            builder.spawn(move || vp.run()).expect("threads are there for the asking")
        });
        Self { threads: threads.collect(), lines: lines.clone(), stop }
    }

    pub(crate) fn count(&self) -> u32 {
        self.lines.count()
    }
}

impl Drop for Vps {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        (0..self.count()).for_each(|vp| self.lines.kick(vp));
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Turns on a processor's SynIC, as a kernel does at boot, with its pages in guest memory.
fn enable(synic: &Synic, ram: &Ram, lines: &Lines, index: u32) -> GuestSynic<&'static FakeCpu> {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(Privileges::SYNIC, Features::empty(), 0);
    let hv = HyperV::detect(&cpu).unwrap_or_else(|absence| panic!("{absence}"));
    let pages = ram.take(2).expect("there is memory for two pages").cast::<SynicPages>();
    let gpa = Gpa(pages.addr().get() as u64);
    // SAFETY: two pages of zeros, which nobody else gets and which are never given back; they are atomics throughout.
    let pages: &'static SynicPages = unsafe { pages.as_ref() };
    // SAFETY: the pages are where `gpa` says, for this processor alone.
    let guest = unsafe { GuestSynic::enable(cpu, &hv, pages, gpa) };
    let guest = guest.unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: registers of the fake.
    let register = |msr| unsafe { cpu.rdmsr(msr) };
    synic.registers_changed(
        index,
        Registers {
            control: register(HV_X64_MSR_SCONTROL),
            message_page: register(HV_X64_MSR_SIMP),
            event_page: register(HV_X64_MSR_SIEFP),
        },
    );
    let lines = lines.clone();
    cpu.on_wrmsr(move |msr, value| {
        if msr == HV_X64_MSR_EOM {
            lines.acknowledge(index);
        }
        value
    });
    guest
}

struct Vp {
    index: u32,
    guest: GuestSynic<&'static FakeCpu>,
    synic: Arc<Synic>,
    lines: Lines,
    bus: CurrentBus,
    stop: Arc<AtomicBool>,
}

impl Vp {
    fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            self.wait();
            let _ = self.lines.kicks(self.index).read();
            // What KVM's thread of the VP does outside the guest.
            self.synic.work(self.index);
            for sint in self.lines.take_interrupts(self.index) {
                self.interrupt(sint);
                // The end of the interrupt, of which KVM tells.
                self.lines.acknowledge(self.index);
            }
        }
    }

    /// Until there is a kick or an interrupt.
    fn wait(&self) {
        let lines = self.lines.of(self.index);
        let interrupts = lines.iter().map(|(_, ends)| ends.interrupt.as_raw_fd());
        let descriptors = interrupts.chain([self.lines.kicks(self.index).as_raw_fd()]);
        let mut waits: Vec<_> =
            descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: writes `revents` of so many elements.
        unsafe { libc::poll(waits.as_mut_ptr(), waits.len() as libc::nfds_t, -1) };
    }

    /// What a kernel's handler does.
    fn interrupt(&self, sint: u8) {
        let Some(sint) = Sint::new(sint) else { return };
        let bus = lock(&self.bus).clone();
        self.guest.pages().flags.take(sint, |flag| {
            if let Some(bus) = &bus {
                bus.on_event(flag);
            }
        });
        while let Some(message) = self.guest.take_message(sint) {
            let message = message.expect("the host's messages fit their slots");
            if let Some(bus) =
                bus.as_ref().filter(|_| message.message_type().0 == VMBUS_MESSAGE_TYPE)
            {
                bus.on_message(message.payload());
            }
        }
    }
}
