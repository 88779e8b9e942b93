//! A machine without a processor: the guest's drivers and the host's providers in one process, joined by the host's own SynIC.
//!
//! Memory is the host's, as of a virtual machine; the guest's kernel is [`InProcessHal`]. Of KVM there is only what raises an
//! interrupt, which here wakes a thread for each virtual processor. So a test of both sides takes milliseconds, and runs
//! wherever Rust does.
//!
//! - [`ram`]: guest memory, which is the process's
//! - [`hal`]: the kernel that the drivers see
//! - [`vp`]: virtual processors, which take interrupts
//! - [`lines`]: from the host's SynIC to these
//! - [`run`]: polling futures; [`devices`]: what is on the bus
//! - [`Machine`]: all of it with a bus; [`Cases`]: `vsc-cases` on it

#![deny(missing_docs)]

pub mod cases;
pub mod devices;
pub mod hal;
pub mod lines;
pub mod ram;
pub mod run;
pub mod vp;

use std::sync::{Arc, Mutex};

use hypervisor_host::hyperv::synic::Synic;
use hypervisor_host::vmbus::{ServerOptions, VmbusDevice, VmbusServer};
use vsc_drivers::{BusOptions, Vmbus};

pub use cases::Cases;
pub use devices::Devices;
pub use hal::InProcessHal;

use lines::Lines;
use ram::Ram;
use vp::Vps;

/// The bus that a machine's guest uses, if any: it gets the interrupts.
pub(crate) type CurrentBus = Arc<Mutex<Option<Vmbus<InProcessHal>>>>;

/// A machine.
pub struct Machine {
    server: Arc<VmbusServer>,
    hal: InProcessHal,
    bus: CurrentBus,
    // Its threads end after the server's.
    vps: Vps,
}

impl Machine {
    /// A machine with so many virtual processors, and these devices on its bus.
    pub fn new(options: ServerOptions, devices: Vec<Arc<dyn VmbusDevice>>) -> Self {
        let ram = Arc::new(Ram::new());
        let lines = Lines::new(options.vps);
        let kick = {
            let lines = lines.clone();
            Arc::new(move |vp| lines.kick(vp))
        };
        let memory = ram.memory().clone();
        let synic = Synic::new(memory.clone(), options.vps, Box::new(lines.clone()), kick);
        let synic = Arc::new(synic);
        let server = VmbusServer::new(synic.clone(), memory, options);
        let server = server.unwrap_or_else(|error| panic!("no bus: {error}"));
        for device in devices {
            server.add(device).unwrap_or_else(|error| panic!("no device: {error}"));
        }
        let bus = CurrentBus::default();
        let vps = Vps::start(&synic, &ram, &lines, &bus);
        let hal = InProcessHal::new(ram, synic);
        Self { server, hal, bus, vps }
    }

    /// The host's end of the bus.
    pub fn server(&self) -> &Arc<VmbusServer> {
        &self.server
    }

    /// The guest's kernel.
    pub fn hal(&self) -> &InProcessHal {
        &self.hal
    }

    /// Number of virtual processors.
    pub fn vps(&self) -> u32 {
        self.vps.count()
    }

    /// A new bus for the guest, which gets the interrupts from now on.
    pub fn new_bus(&self, options: BusOptions) -> Vmbus<InProcessHal> {
        let bus = Vmbus::new(self.hal.clone(), options);
        *vp::lock(&self.bus) = Some(bus.clone());
        bus
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.server.stop();
        vp::lock(&self.bus).take();
    }
}
