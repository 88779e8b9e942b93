//! Signals in both directions.

use core::sync::atomic::Ordering;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::hypercall::HvError;
use hv_abi::vmbus::VMBUS_EVENT_CONNECTION_ID;
use hv_abi::vmbus::version::VmbusVersion;
use std::vec::Vec;

use super::protocol::Host;
use super::{Machine, lock};

/// Bytes of the interrupt page for each direction.
const HALF_PAGE: u64 = HV_PAGE_SIZE as u64 / 2;

/// The word that has a channel's bit, from the start of half an interrupt page, and the bit.
fn bit(relid: u32) -> (u64, u32) {
    (u64::from(relid / 32 * 4), 1 << (relid % 32))
}

impl Machine {
    /// A signal of the guest.
    pub(super) fn signal(&self, connection: u32, flag: u16) -> Result<(), HvError> {
        assert_eq!(flag, 0, "channels have one flag");
        let mut host = lock(&self.host);
        if host.deaf {
            return Err(HvError::INVALID_CONNECTION_ID);
        }
        let signalled = if connection == VMBUS_EVENT_CONNECTION_ID {
            self.take_bits(&host)
        } else {
            let mut all = host.devices.iter();
            let channel = all.find(|(_, device)| device.message.connection_id == connection);
            let (relid, device) = channel.ok_or(HvError::INVALID_CONNECTION_ID)?;
            let shared = device.message.is_dedicated_interrupt == 0;
            if shared && let Some(page) = interrupt_page(&host) {
                let (word, bit) = bit(*relid);
                let before =
                    self.memory.word(page + HALF_PAGE + word).fetch_and(!bit, Ordering::SeqCst);
                assert!(before & bit != 0, "signalled, and the interrupt page does not say so");
            }
            Vec::from([*relid])
        };
        for relid in signalled {
            host.devices.entry(relid).and_modify(|device| device.signals += 1);
        }
        drop(host);
        self.wake_devices();
        Ok(())
    }

    /// The channels whose bits the guest has set.
    fn take_bits(&self, host: &Host) -> Vec<u32> {
        let page = interrupt_page(host).expect("a version with an interrupt page");
        let set = |relid: &u32| {
            let (word, bit) = bit(*relid);
            let word = self.memory.word(page + HALF_PAGE + word);
            word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
        };
        host.devices.keys().copied().filter(set).collect()
    }

    /// Signals a channel to the guest.
    pub(super) fn interrupt_channel(&self, relid: u32) {
        let (old, page) = {
            let host = lock(&self.host);
            let old = host.version().is_some_and(|version| version < VmbusVersion::V2_4);
            (old, interrupt_page(&host))
        };
        match page.filter(|_| old) {
            Some(page) => {
                let (word, bit) = bit(relid);
                self.memory.word(page + word).fetch_or(bit, Ordering::SeqCst);
                self.interrupt(|bus| bus.on_event(0));
            }
            None => self.interrupt(|bus| bus.on_event(relid as u16)),
        }
    }

    /// Looks which triggers of the guest's monitor page were pulled, as hosts do from time to time; whether any was.
    pub(super) fn look_at_monitors(&self) -> bool {
        let mut host = lock(&self.host);
        let Some(contact) = host.connected.filter(|contact| contact.monitor_page2 != 0) else {
            return false;
        };
        let mut any = false;
        for trigger in 0..128_u8 {
            let group = contact.monitor_page2 + 8 + u64::from(trigger / 32) * 8;
            let bit = 1 << (trigger % 32);
            if self.memory.word(group).fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
                continue;
            }
            any = true;
            for device in host.devices.values_mut() {
                if device.message.monitor_allocated != 0 && device.message.monitorid == trigger {
                    device.monitor_signals += 1;
                }
            }
        }
        drop(host);
        if any {
            self.wake_devices();
        }
        any
    }
}

/// The interrupt page, in versions that have one.
fn interrupt_page(host: &Host) -> Option<u64> {
    let contact = host.connected?;
    (contact.vmbus_version_requested < VmbusVersion::V5_0).then_some(contact.target)
}
