//! How a source becomes an interrupt: a GSI of its own, routed to the SINT, with an irqfd.
//!
//! `KVM_SET_GSI_ROUTING` replaces the whole table, so the routes to PIC and IOAPIC are part of every new one,
//! as KVM made them by itself (Linux, `arch/x86/kvm/irq_comm.c`, `default_routing`). A GSI above the IOAPIC's
//! is the source's for good: KVM finds it again when the guest ends an interrupt.
#![expect(unsafe_code, reason = "a union of kvm_bindings, and an ioctl without wrapper")]

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use hv_abi::synic::HV_SYNIC_SINT_COUNT;
use kvm_bindings::{
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVMIO, KvmIrqRouting, kvm_hyperv_eventfd, kvm_irq_routing_entry,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{_IOC_WRITE, ioctl_expr, ioctl_with_ref};

use super::{RouteUse, Sint};
use crate::stats::lock;

/// Pins of the in-kernel IOAPIC.
const IOAPIC_PINS: u32 = 24;
/// Pins of one of the two PICs.
const PIC_PINS: u32 = 8;
/// `_IOW(KVMIO, 0xbd, struct kvm_hyperv_eventfd)` of `linux/kvm.h`.
const KVM_HYPERV_EVENTFD: libc::c_ulong =
    ioctl_expr(_IOC_WRITE, KVMIO, 0xBD, size_of::<kvm_hyperv_eventfd>() as u32);
/// `KVM_HYPERV_EVENTFD_DEASSIGN` of `linux/kvm.h`.
const DEASSIGN: u32 = 1;

/// Both ends of a source's interrupt.
pub struct Line {
    /// Written: the VP is interrupted.
    pub interrupt: EventFd,
    /// Readable: the guest ended an interrupt of this source, or a message.
    pub acknowledged: Option<EventFd>,
}

impl Line {
    /// Interrupts the VP.
    pub fn raise(&self) {
        // Fails only if the counter overflows, and then an interrupt is on its way already.
        let _ = self.interrupt.write(1);
    }
}

/// Connects sources with interrupts; KVM, or a fake in tests.
pub trait SintLines: Send + Sync {
    /// Connects a source that is not connected.
    ///
    /// # Errors
    /// KVM or the operating system refuses.
    fn connect(&self, sint: Sint, use_: RouteUse) -> Result<Line, errno::Error>;

    /// Takes back what [`SintLines::connect`] made.
    fn disconnect(&self, sint: Sint, line: &Line);

    /// Lets the guest's `HvCallSignalEvent` on `connection` write `event`, without an exit to us.
    ///
    /// # Errors
    /// KVM can't, or has such a connection.
    fn connect_event(&self, connection: u32, event: &EventFd) -> Result<(), errno::Error>;

    /// Takes that back.
    fn disconnect_event(&self, connection: u32, event: &EventFd);
}

/// KVM's.
pub struct KvmLines {
    vm: Arc<VmFd>,
    connected: Mutex<BTreeSet<(u32, u8)>>,
}

impl KvmLines {
    /// Of a machine with in-kernel interrupt controllers.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self { vm, connected: Mutex::default() }
    }

    fn set_routes(&self, connected: &BTreeSet<(u32, u8)>) -> Result<(), errno::Error> {
        let sints = connected.iter().map(|&(vp, number)| sint_route(Sint { vp, number }));
        let routes: Vec<_> = default_routes().chain(sints).collect();
        let routes =
            KvmIrqRouting::from_entries(&routes).map_err(|_| errno::Error::new(libc::ENOSPC))?;
        self.vm.set_gsi_routing(&routes)
    }

    fn event_fd(&self, connection: u32, event: &EventFd, flags: u32) -> Result<(), errno::Error> {
        let argument = kvm_hyperv_eventfd {
            conn_id: connection,
            fd: event.as_raw_fd(),
            flags,
            ..Default::default()
        };
        // SAFETY: the kernel reads one structure of this type.
        match unsafe { ioctl_with_ref(&*self.vm, KVM_HYPERV_EVENTFD, &argument) } {
            0 => Ok(()),
            _ => Err(errno::Error::last()),
        }
    }
}

impl SintLines for KvmLines {
    fn connect(&self, sint: Sint, use_: RouteUse) -> Result<Line, errno::Error> {
        let event = || EventFd::new(libc::EFD_NONBLOCK).map_err(errno::Error::from);
        let interrupt = event()?;
        let acknowledged = (use_ == RouteUse::Messages).then(event).transpose()?;
        let mut connected = lock(&self.connected);
        connected.insert((sint.vp, sint.number));
        let irqfd = || match &acknowledged {
            Some(ack) => self.vm.register_irqfd_with_resample(&interrupt, ack, gsi(sint)),
            None => self.vm.register_irqfd(&interrupt, gsi(sint)),
        };
        if let Err(error) = self.set_routes(&connected).and_then(|()| irqfd()) {
            connected.remove(&(sint.vp, sint.number));
            return Err(error);
        }
        Ok(Line { interrupt, acknowledged })
    }

    fn disconnect(&self, sint: Sint, line: &Line) {
        let mut connected = lock(&self.connected);
        connected.remove(&(sint.vp, sint.number));
        // Both worked the other way round, and a route without an irqfd does nothing.
        let _ = self.vm.unregister_irqfd(&line.interrupt, gsi(sint));
        let _ = self.set_routes(&connected);
    }

    fn connect_event(&self, connection: u32, event: &EventFd) -> Result<(), errno::Error> {
        self.event_fd(connection, event, 0)
    }

    fn disconnect_event(&self, connection: u32, event: &EventFd) {
        // It was connected, so it can be disconnected.
        let _ = self.event_fd(connection, event, DEASSIGN);
    }
}

/// The interrupt number of a source.
fn gsi(sint: Sint) -> u32 {
    IOAPIC_PINS + sint.vp * HV_SYNIC_SINT_COUNT as u32 + u32::from(sint.number)
}

fn sint_route(sint: Sint) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi: gsi(sint),
        type_: KVM_IRQ_ROUTING_HV_SINT,
        ..Default::default()
    };
    entry.u.hv_sint.vcpu = sint.vp;
    entry.u.hv_sint.sint = sint.number.into();
    entry
}

/// IOAPIC pin *n* for GSI *n*, and a PIC's pin for the first sixteen.
fn default_routes() -> impl Iterator<Item = kvm_irq_routing_entry> {
    (0..IOAPIC_PINS).flat_map(|gsi| {
        let pic = match gsi / PIC_PINS {
            0 => Some(KVM_IRQCHIP_PIC_MASTER),
            1 => Some(KVM_IRQCHIP_PIC_SLAVE),
            _ => None,
        };
        let pic = pic.map(|chip| chip_route(gsi, chip, gsi % PIC_PINS));
        [Some(chip_route(gsi, KVM_IRQCHIP_IOAPIC, gsi)), pic].into_iter().flatten()
    })
}

fn chip_route(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip.irqchip = irqchip;
    entry.u.irqchip.pin = pin;
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chips(gsi: u32) -> Vec<(u32, u32)> {
        default_routes()
            .filter(|entry| entry.gsi == gsi)
            .map(|entry| {
                // SAFETY: the entries were just made with this variant.
                let chip = unsafe { entry.u.irqchip };
                (chip.irqchip, chip.pin)
            })
            .collect()
    }

    /// Linux 6.1, arch/x86/kvm/irq_comm.c, default_routing; numbers of `linux/kvm.h`.
    #[test]
    fn pic_and_ioapic_keep_their_pins() {
        let (pic1, pic2, ioapic) = (0, 1, 2);
        assert_eq!(chips(0), [(ioapic, 0), (pic1, 0)]);
        assert_eq!(chips(7), [(ioapic, 7), (pic1, 7)]);
        assert_eq!(chips(8), [(ioapic, 8), (pic2, 0)]);
        assert_eq!(chips(15), [(ioapic, 15), (pic2, 7)]);
        assert_eq!(chips(16), [(ioapic, 16)]);
        assert_eq!(default_routes().count(), 24 + 16);
    }

    #[test]
    fn every_source_of_every_vp_has_its_own_interrupt() {
        let all: BTreeSet<_> = (0..crate::layout::MAX_VPS)
            .flat_map(|vp| (0..16).map(move |number| gsi(Sint { vp, number })))
            .collect();
        assert_eq!(all.len(), 64 * 16);
        assert!(*all.first().unwrap() >= IOAPIC_PINS);
        assert!(*all.last().unwrap() < kvm_bindings::KVM_MAX_IRQ_ROUTES as u32);
    }
}
