//! The devices that machines of these tests have.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypervisor_host::net::switch::Switch;
use hypervisor_host::storage::controller::Controller;
use hypervisor_host::storage::disk::Disk;
use hypervisor_host::storage::engine::{EngineChoice, Engines};
use hypervisor_host::storage::memory::MemoryDisk;
use hypervisor_host::storage::unit::Unit;
use hypervisor_host::vmbus::VmbusDevice;
use hypervisor_host::vsp::ic::clock::{ClockSample, Clocks};
use hypervisor_host::vsp::ic::kvp::HostItems;
use hypervisor_host::vsp::ic::{Components, IcChoice};
use hypervisor_host::vsp::netvsp::{NetVsp, NetVspOptions};
use hypervisor_host::vsp::storvsp::{StorvspDevice, StorvspOptions};

use crate::run::reference_100ns;

/// A machine's devices, and the host's handles of them.
pub struct Devices {
    /// The disks.
    pub controller: Arc<Controller>,
    /// The network cards, all plugged into one switch.
    pub cards: Vec<Arc<NetVsp>>,
    /// The integration components.
    pub components: Components,
    all: Vec<Arc<dyn VmbusDevice>>,
}

impl Devices {
    /// A controller with a scratch disk (LUN 0, 64 MiB), a read-only one (LUN 1, 1 MiB) and one far behind (LUN 7, 16 MiB); two
    /// cards with as many channels as the machine has processors; all integration components.
    pub fn new(vps: u32) -> Self {
        let controller = Arc::new(Controller::default());
        plug(&controller, 0, MemoryDisk::new(vec![0; 64 << 20]));
        plug(&controller, 1, MemoryDisk::read_only((0..1 << 20).map(|at| at as u8).collect()));
        plug(&controller, 7, MemoryDisk::new(vec![0; 16 << 20]));
        let engines = Engines::new(EngineChoice::Auto).expect("threads can always be had");
        let options = StorvspOptions::new(vps);
        let storage = StorvspDevice::new(controller.clone(), engines, options);
        let switch = Switch::private();
        let cards: Vec<_> = (0..2).map(|index| Arc::new(card(&switch, index, vps))).collect();
        let host_items = HostItems::new("host", "in-process", "0000");
        let components = Components::new(IcChoice::ON, Arc::new(HostClocks), host_items);
        let mut all: Vec<Arc<dyn VmbusDevice>> = vec![Arc::new(storage)];
        all.extend(cards.iter().map(|card| card.clone() as Arc<dyn VmbusDevice>));
        all.extend(components.devices());
        Self { controller, cards, components, all }
    }

    /// As the bus takes them.
    pub fn all(&self) -> Vec<Arc<dyn VmbusDevice>> {
        self.all.clone()
    }
}

fn card(switch: &Arc<Switch>, index: u16, vps: u32) -> NetVsp {
    let port = switch.plug_in().expect("a new switch has room");
    let queues = vps.min(4) as u16;
    NetVsp::new(NetVspOptions { queues, ..NetVspOptions::new(index) }, Box::new(port))
}

fn plug(controller: &Controller, lun: u8, disk: MemoryDisk) {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let unit = Arc::new(Unit::new(&format!("disk{lun}"), u64::from(lun) + 1, disk));
    controller.plug(lun, unit).expect("the number is free");
}

/// This computer's.
struct HostClocks;

impl Clocks for HostClocks {
    fn sample(&self) -> ClockSample {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_100ns = (since_1970.as_nanos() / 100) as u64;
        // Days between 1601 and 1970.
        let offset = 134_774 * 86_400 * 10_000_000;
        ClockSample { host_time_100ns: now_100ns + offset, reference_100ns: reference_100ns() }
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}
