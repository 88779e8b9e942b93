//! Emulated devices of a machine: an IDE controller with its drives, and network cards, all on PCI.

use std::sync::{Arc, OnceLock};

use crate::config::MachineConfig;
use crate::emulated::ide::{DRIVES, IdeController, IdeCounters, IdeDrive};
use crate::emulated::pci::PciPlan;
use crate::emulated::tulip::{Tulip, TulipFunction};
use crate::error::HostError;
use crate::layout::{PCI_FIRST_CARD_SLOT, PCI_IDE_FUNCTION, PCI_PIIX4_SLOT};
use crate::net::mac::MacAddress;
use crate::net::open::Networks;
use crate::partition::Partition;
use crate::report::Report;
use crate::storage::engine::Engines;
use crate::storage::open::{self, IdeUnit};

/// What they are made of.
#[derive(Default)]
pub(super) struct Emulated {
    drives: [Option<IdeUnit>; DRIVES],
    engines: Option<Engines>,
    ide_counters: Arc<OnceLock<Arc<IdeCounters>>>,
    cards: Vec<Arc<Tulip>>,
}

impl Emulated {
    /// Opens disks and networks.
    ///
    /// # Errors
    /// One of them can't be had.
    pub(super) fn open(
        config: &MachineConfig,
        networks: &mut Networks,
        machine: u16,
    ) -> Result<Self, HostError> {
        let mut emulated = Self { drives: open::ide_units(config.ide_disks())?, ..Self::default() };
        if config.ide_disks().next().is_some() {
            emulated.engines = Some(Engines::new(config.disk_engine)?);
        }
        for (index, options) in config.emulated_cards() {
            let address = options.mac.unwrap_or(MacAddress::of_machines_card(machine, index));
            let backend = networks.open(options)?;
            let card = Tulip::new(index, address, backend)
                .map_err(HostError::system("make a network card"))?;
            emulated.cards.push(Arc::new(card));
        }
        Ok(emulated)
    }

    /// The bus that they will be on; `None` for a machine without any.
    pub(super) fn plan(&mut self) -> Option<PciPlan> {
        let mut plan = PciPlan::default();
        if let Some(engines) = self.engines.take() {
            let drives = self.drives.clone().map(|unit| unit.map(drive));
            let counters = self.ide_counters.clone();
            plan.add(PCI_PIIX4_SLOT, PCI_IDE_FUNCTION, move |context| {
                let controller = IdeController::new(context, &engines, drives)?;
                counters.get_or_init(|| controller.counters().clone());
                Ok(Box::new(controller))
            });
        }
        for (slot, card) in (PCI_FIRST_CARD_SLOT..).zip(&self.cards) {
            let card = card.clone();
            plan.add(slot, 0, move |context| Ok(Box::new(TulipFunction::new(card, context)?)));
        }
        (!plan.is_empty()).then_some(plan)
    }

    /// Network cards.
    pub(super) fn cards(&self) -> &[Arc<Tulip>] {
        &self.cards
    }

    /// Has snapshots tell what they count.
    pub(super) fn count(&self, partition: &Partition) {
        if let Some(counters) = self.ide_counters.get() {
            partition.gauges().add("ide", counters.clone());
        }
        for card in &self.cards {
            partition.gauges().add(&card.name(), card.clone());
        }
    }

    /// Tells what they did.
    pub(super) fn report(&self, report: &mut Report) {
        let drives = (0..).zip(&self.drives);
        let drives = drives.filter_map(|(place, unit)| Some(unit.as_ref()?.unit.report(place)));
        report.ide = drives.collect();
        report.emulated_nets = self.cards.iter().map(|card| card.report()).collect();
    }
}

fn drive(IdeUnit { unit, cdrom }: IdeUnit) -> IdeDrive {
    match cdrom {
        true => IdeDrive::CdRom(unit),
        false => IdeDrive::Disk(unit),
    }
}
