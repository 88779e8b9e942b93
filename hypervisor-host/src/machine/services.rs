//! What a machine has besides itself: integration components on its bus, and a control socket that answers.

use std::sync::Arc;

use serde_json::json;

use crate::config::MachineConfig;
use crate::control::machine::MachineFacility;
use crate::control::{self, Facilities};
use crate::partition::Partition;
use crate::partition::shared::Shared;
use crate::report::MachineReport;
use crate::vmbus::AddError;
use crate::vsp::ic::Components;
use crate::vsp::ic::clock::KvmClocks;
use crate::vsp::ic::kvp::HostItems;

/// Offers the guest the components that it shall have: none without a bus.
pub(super) fn add_components(
    config: &MachineConfig,
    partition: &Partition,
) -> Result<Components, AddError> {
    let Some(bus) = partition.vmbus() else { return Ok(Components::default()) };
    let name = config.kernel.file_name().unwrap_or_default().to_string_lossy();
    let clocks = Arc::new(KvmClocks::new(partition.vm().clone()));
    let components = Components::new(config.ic, clocks, HostItems::of_this_computer(&name));
    for device in components.devices() {
        bus.add(device)?;
    }
    Ok(components)
}

/// What can be asked of a machine.
pub(super) fn facilities(
    machine: &MachineReport,
    shared: &Arc<Shared>,
    components: &Components,
) -> Facilities {
    let machine = MachineFacility::new(shared.clone(), json!(machine));
    let mut all: Facilities = vec![Arc::new(machine)];
    all.extend(control::components::facilities(components));
    all
}
