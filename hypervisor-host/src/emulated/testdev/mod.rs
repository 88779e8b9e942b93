//! The devices that small test kernels expect of a machine (`--test-devices`).
//!
//! They are those of QEMU that kvm-unit-tests uses: `fw_cfg`, `pc-testdev` and `hyperv-testdev`. The port
//! that ends a machine, [`super::exit`], is there always, because our own kernel uses it too. What nobody
//! uses, or what can't be done here, is left out: `pc-testdev`'s port 0xE4, which has the host write-protect a
//! page, and its second data port 0xE8, which is the hypercall page's here.

pub mod data_port;
pub mod fw_cfg;
pub mod irq_lines;
pub mod memory;
pub mod synic;

use std::sync::Arc;

use self::data_port::DataPort;
use self::fw_cfg::FwCfg;
use self::irq_lines::IrqLines;
use self::synic::SynicTest;
use super::PortBus;
use crate::hyperv::synic::Synic;

/// Adds the devices with ports to `ports`; the SynIC's, if there is a SynIC. `set_line` sets an interrupt
/// line, by its GSI, to a level.
pub fn add_ports(
    ports: &mut PortBus,
    vps: u32,
    ram_bytes: u64,
    synic: Option<&Arc<Synic>>,
    set_line: impl Fn(u32, bool) + Send + 'static,
) {
    if let Some(synic) = synic {
        ports.add(SynicTest::FIRST, SynicTest::COUNT, SynicTest::new(synic.clone()));
    }
    ports.add(FwCfg::FIRST, FwCfg::COUNT, FwCfg::new(vps, ram_bytes));
    ports.add(irq_lines::FIRST, irq_lines::COUNT, IrqLines(set_line));
    ports.add(DataPort::FIRST, DataPort::COUNT, DataPort::default());
}
