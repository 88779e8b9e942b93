//! What a machine has besides itself: disks, network cards and integration components on its bus, and a control socket that
//! answers.

use std::sync::Arc;

use serde_json::json;

use crate::config::MachineConfig;
use crate::control::disk::DiskFacility;
use crate::control::machine::MachineFacility;
use crate::control::net::NetFacility;
use crate::control::{self, Facilities};
use crate::emulated::tulip::Tulip;
use crate::error::HostError;
use crate::partition::Partition;
use crate::partition::shared::Shared;
use crate::report::MachineReport;
use crate::storage::engine::Engines;
use crate::storage::open;
use crate::vmbus::AddError;
use crate::vsp::ic::Components;
use crate::vsp::ic::clock::KvmClocks;
use crate::vsp::ic::kvp::HostItems;
use crate::vsp::netvsp::NetVsp;
use crate::vsp::storvsp::{StorvspDevice, StorvspOptions};

/// Offers the guest the components that it shall have: none without a bus.
pub(super) fn add_components(
    config: &MachineConfig,
    partition: &Partition,
) -> Result<Components, AddError> {
    let Some(bus) = partition.vmbus() else { return Ok(Components::default()) };
    let name = config.kernel.file_name().unwrap_or_default().to_string_lossy();
    let clocks = Arc::new(KvmClocks::new(partition.vm().clone()));
    let components =
        Components::new(config.ic.unwrap_or_default(), clocks, HostItems::of_this_computer(&name));
    for device in components.devices() {
        bus.add(device)?;
    }
    Ok(components)
}

/// Puts network cards on the bus.
pub(super) fn add_cards(partition: &Partition, cards: &[Arc<NetVsp>]) -> Result<(), AddError> {
    let Some(bus) = partition.vmbus() else { return Ok(()) };
    for card in cards {
        partition.gauges().add(&card.name(), card.clone());
        bus.add(card.clone())?;
    }
    Ok(())
}

/// What can be asked of a machine.
pub(super) fn facilities(
    machine: &MachineReport,
    shared: &Arc<Shared>,
    components: &Components,
    storage: Option<&Arc<StorvspDevice>>,
    (synthetic, emulated): (&[Arc<NetVsp>], &[Arc<Tulip>]),
) -> Facilities {
    let machine = MachineFacility::new(shared.clone(), json!(machine));
    let mut all: Facilities = vec![Arc::new(machine)];
    all.extend(control::components::facilities(components));
    if let Some(storage) = storage {
        all.push(Arc::new(DiskFacility::new(storage.controller().clone())));
    }
    all.push(Arc::new(NetFacility::new(synthetic).with(emulated)));
    all
}

/// The controller with the machine's disks; also without any where some may be added later.
pub(super) fn storage(config: &MachineConfig) -> Result<Option<Arc<StorvspDevice>>, HostError> {
    let any = config.synthetic_disks().next().is_some();
    if !any && (config.control.is_none() || !config.has_vmbus()) {
        return Ok(None);
    }
    if !config.has_vmbus() {
        return Err(HostError::NoBusForDisks);
    }
    let controller = Arc::new(open::controller(&config.disks)?);
    let engines = Engines::new(config.disk_engine)?;
    let options = StorvspOptions::new(config.vps.get());
    Ok(Some(Arc::new(StorvspDevice::new(controller, engines, options))))
}

/// Puts the controller on the bus.
pub(super) fn add_storage(
    partition: &Partition,
    storage: Option<&Arc<StorvspDevice>>,
) -> Result<(), AddError> {
    if let Some((bus, storage)) = partition.vmbus().zip(storage) {
        bus.add(storage.clone())?;
    }
    Ok(())
}
