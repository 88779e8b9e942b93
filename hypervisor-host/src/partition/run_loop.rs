//! What a VP thread does: run the guest, answer its exit, again.

use hv_abi::host::HYPERCALL_PAGE_PORT;
use hv_abi::msr::HV_X64_MSR_GUEST_IDLE;
use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;

use super::exit::{self, Exit, PortAccess, SystemEvent};
use super::idling::{IdleVp, Idling};
use super::registers::{General, Special, is_reset};
use super::shared::Shared;
use crate::emulated::Request;
use crate::hyperv::{GeneralProtection, VpAccess, VpMemo};
use crate::outcome::{Outcome, Reason};
use crate::stats::{ExitKind, VpStats};

/// Said where a dump of all registers would be.
const LOST: &str = "  This processor does not keep the registers of a triple fault;";

/// A VP and what its thread needs.
pub struct VpRunner<'a> {
    index: u32,
    vcpu: VcpuFd,
    /// At the last exit that did not end the machine.
    last_registers: Option<kvm_regs>,
    memo: VpMemo,
    idling: Idling,
    stats: &'a VpStats,
    shared: &'a Shared,
}

impl<'a> VpRunner<'a> {
    /// VP number `index` of a machine. `None` if the machine has no such VP.
    pub fn new(index: u32, vcpu: VcpuFd, shared: &'a Shared) -> Option<Self> {
        let stats = shared.vps.get(index as usize)?;
        let (last_registers, memo, idling) = Default::default();
        Some(Self { index, vcpu, last_registers, memo, idling, stats, shared })
    }

    /// Runs the guest until the machine ends.
    pub fn run(&mut self) {
        let shared = self.shared;
        let kicks = shared.kicks.enter(self.index, &mut self.vcpu);
        loop {
            // First of all: a kick from now on keeps the VP from entering the guest.
            self.vcpu.set_kvm_immediate_exit(0);
            kicks.looks();
            if shared.ending.get().is_some() {
                return;
            }
            if let Some(hyperv) = &shared.hyperv {
                hyperv.synic().work(self.index);
            }
            self.idle(Idling::look);
            let exit = exit::run(&mut self.vcpu);
            if exit != Exit::Interrupted {
                self.idle(Idling::guest_ran);
            }
            match self.answer(exit) {
                Some(outcome) => self.shared.ending.set(outcome),
                None => self.last_registers = Some(self.vcpu.sync_regs().regs),
            }
        }
    }

    fn answer(&mut self, exit: Exit) -> Option<Outcome> {
        if !is_hypercall_page(&exit) {
            self.stats.count_exit(exit.kind());
        }
        match exit {
            Exit::Port(access) if is_hypercall_page(&exit) => {
                self.hypercall_page(access);
                None
            }
            Exit::Port(access) => self.ports(access),
            Exit::MmioRead(address) | Exit::MmioWrite(address) => {
                self.memory_access(address, matches!(exit, Exit::MmioRead(_)));
                None
            }
            Exit::MsrRead(msr) => {
                self.read_msr(msr);
                None
            }
            Exit::MsrWrite(msr, value) => {
                self.write_msr(msr, value);
                None
            }
            Exit::Hypercall(input, parameters) => {
                self.hypercall(input, parameters);
                None
            }
            Exit::Synic(registers) => {
                if let Some(hyperv) = &self.shared.hyperv {
                    hyperv.synic().registers_changed(self.index, registers);
                }
                None
            }
            Exit::Interrupted | Exit::System(SystemEvent::Other(_)) => None,
            Exit::System(SystemEvent::Reset) => Some(Outcome::guest(Reason::Reset, 0)),
            Exit::System(SystemEvent::PowerOff) => Some(Outcome::guest(Reason::PowerOff, 0)),
            Exit::System(SystemEvent::Crash) => Some(Outcome::died(
                Reason::GuestCrash,
                format!("the guest reported a crash on VP {}", self.index),
            )),
            Exit::Shutdown => Some(self.died(Reason::TripleFault, "triple fault")),
            Exit::Error(what) => Some(self.died(Reason::KvmError, &what)),
            Exit::Other(reason) => {
                let what = format!("unexpected exit with reason {reason}");
                Some(self.died(Reason::KvmError, &what))
            }
        }
    }

    fn hypercall_page(&mut self, access: PortAccess) {
        self.stats.count_exit(ExitKind::HypercallPage);
        let registers = self.vcpu.sync_regs().regs;
        let access_width = access.width;
        let answer = match &self.shared.hyperv {
            None => u32::MAX,
            Some(hyperv) => hyperv.hypercall_page(VpAccess {
                index: self.index,
                vcpu: &self.vcpu,
                registers,
                stats: self.stats,
                memo: &mut self.memo,
            }),
        };
        for element in exit::port_data(&mut self.vcpu).chunks_mut(access_width) {
            let bytes = answer.to_le_bytes();
            let count = element.len().min(bytes.len());
            element[..count].copy_from_slice(&bytes[..count]);
        }
    }

    fn ports(&mut self, access: PortAccess) -> Option<Outcome> {
        let mut outcome = None;
        let shared = self.shared;
        let data = exit::port_data(&mut self.vcpu);
        // A string instruction is one call for a PCI function.
        if data.len() > access.width
            && let Some(pci) = shared.ports.pci_at(access.port)
        {
            let claimed = match access.read {
                true => pci.read_port_repeated(access.port, access.width, data),
                false => pci.write_port_repeated(access.port, access.width, data),
            };
            if !claimed {
                self.stats.count_unclaimed();
            }
            return None;
        }
        for element in exit::port_data(&mut self.vcpu).chunks_mut(access.width) {
            let result = if access.read {
                shared.ports.read(access.port, element).map(|()| None)
            } else {
                shared.ports.write(access.port, element)
            };
            match result {
                Ok(None) => {}
                Ok(Some(Request::End(end))) => outcome = outcome.or(Some(end)),
                Ok(Some(Request::Mark(mark))) => shared.record_mark(self.index, mark),
                Err(_) => self.stats.count_unclaimed(),
            }
        }
        outcome
    }

    fn memory_access(&mut self, address: u64, read: bool) {
        let data = exit::mmio_data(&mut self.vcpu);
        let test_memory = self.shared.test_memory.as_ref().is_some_and(|memory| match read {
            true => memory.read(address, data),
            false => memory.write(address, data),
        });
        let claimed = test_memory
            || self.shared.pci.as_ref().is_some_and(|pci| match read {
                true => pci.read_memory(address, data),
                false => pci.write_memory(address, data),
            });
        if !claimed {
            self.stats.count_unclaimed();
        }
    }

    fn read_msr(&mut self, msr: u32) {
        let hyperv = self.shared.hyperv.as_ref().ok_or(GeneralProtection);
        let value = hyperv.and_then(|hyperv| hyperv.read_msr(msr));
        exit::answer_msr_read(&mut self.vcpu, value);
        if msr == HV_X64_MSR_GUEST_IDLE && value.is_ok() {
            let registers = self.vcpu.sync_regs().regs;
            self.idle(|idling, vp| idling.begin(vp, &registers));
        }
    }

    fn write_msr(&mut self, msr: u32, value: u64) {
        let hyperv = self.shared.hyperv.as_ref().ok_or(GeneralProtection);
        let result = hyperv.and_then(|hyperv| hyperv.write_msr(self.index, &self.vcpu, msr, value));
        exit::answer_msr_write(&mut self.vcpu, result);
    }

    fn hypercall(&mut self, input: u64, parameters: [u64; 2]) {
        if let Some(hyperv) = &self.shared.hyperv {
            let result = hyperv.hypercall(input, parameters, self.stats);
            exit::answer_hypercall(&mut self.vcpu, result);
        }
    }

    /// Does something with the VP's idle state.
    fn idle(&mut self, action: impl FnOnce(&mut Idling, &IdleVp<'_>)) {
        if let Some(hyperv) = &self.shared.hyperv {
            let vp = IdleVp {
                index: self.index,
                vcpu: &self.vcpu,
                hyperv: &**hyperv,
                stats: self.stats,
            };
            action(&mut self.idling, &vp);
        }
    }

    fn died(&self, reason: Reason, what: &str) -> Outcome {
        let registers = match (self.vcpu.get_regs(), self.vcpu.get_sregs()) {
            // AMD processors leave nothing of a VP that shut down, so KVM resets it.
            (Ok(regs), Ok(sregs)) if is_reset(&regs, &sregs) => match &self.last_registers {
                Some(last) => format!(
                    "{LOST} at the VP's last exit to the host they were:\n{}",
                    General(last)
                ),
                None => format!("{LOST} the VP never came back to the host before"),
            },
            (Ok(regs), Ok(sregs)) => format!("{}{}", General(&regs), Special(&sregs)),
            _ => "  (its registers are not readable)".into(),
        };
        let detail = format!("{what} on VP {}\n{registers}", self.index);
        Outcome::died(reason, detail.trim_end().to_owned())
    }
}

fn is_hypercall_page(exit: &Exit) -> bool {
    matches!(exit, Exit::Port(access) if access.read && access.port == u16::from(HYPERCALL_PAGE_PORT))
}
