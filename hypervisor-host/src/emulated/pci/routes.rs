//! Who has which ports and addresses at present.

use std::ops::RangeInclusive;

use hv_abi::pci::{PCI_BARS, PciCommand};

use super::{PciFunction, Place};

/// All regions that answer.
#[derive(Default)]
pub(super) struct Routes {
    ports: Vec<Window>,
    memory: Vec<Window>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    first: u32,
    last: u32,
    /// Index of the function.
    pub function: usize,
    /// Its region.
    pub place: Place,
}

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Index of the function.
    pub function: usize,
    /// Its region.
    pub place: Place,
    /// Where in the region.
    pub offset: u32,
    /// How many bytes follow in the region, at least 1.
    pub room: usize,
}

impl Routes {
    /// Takes up what a function answers at now, instead of what it did before.
    pub(super) fn update(&mut self, function: usize, device: &dyn PciFunction) {
        let command = device.config().command();
        let bars = || bars(function, device);
        let io = command.contains(PciCommand::IO);
        let ports = legacy(function, device)
            .chain(bars().filter(|(is_io, _)| *is_io).map(|(_, window)| window))
            .filter(|window| io && u16::try_from(window.last).is_ok());
        replace(&mut self.ports, function, ports);
        let memory = bars().filter(|(is_io, _)| !is_io).map(|(_, window)| window);
        replace(
            &mut self.memory,
            function,
            memory.filter(|_| command.contains(PciCommand::MEMORY)),
        );
    }

    /// Who has this port.
    pub(super) fn port(&self, port: u16) -> Option<Target> {
        find(&self.ports, port.into())
    }

    /// Who has this address.
    pub(super) fn memory(&self, address: u64) -> Option<Target> {
        find(&self.memory, u32::try_from(address).ok()?)
    }
}

/// Where regions overlap, the function that was added first wins, and of its own the one named first.
fn find(windows: &[Window], at: u32) -> Option<Target> {
    let window = windows.iter().find(|window| window.range().contains(&at))?;
    Some(Target {
        function: window.function,
        place: window.place,
        offset: at - window.first,
        room: (window.last - at) as usize + 1,
    })
}

fn replace(windows: &mut Vec<Window>, function: usize, new: impl Iterator<Item = Window>) {
    windows.retain(|window| window.function != function);
    windows.extend(new);
    windows.sort_by_key(|window| window.function);
}

fn legacy(function: usize, device: &dyn PciFunction) -> impl Iterator<Item = Window> {
    (0..).zip(device.legacy_ports()).filter_map(move |(index, range)| {
        let last = range.first.checked_add(range.count.checked_sub(1)?)?;
        let place = Place::Legacy(index);
        Some(Window { first: range.first.into(), last: last.into(), function, place })
    })
}

/// Regions of base address registers, and whether they are ports. A guest that asks for the size, or has not chosen an address,
/// leaves one that would reach beyond the last address: it answers nowhere.
fn bars(function: usize, device: &dyn PciFunction) -> impl Iterator<Item = (bool, Window)> {
    (0..PCI_BARS as u8).filter_map(move |index| {
        let (bar, first) = device.config().bar(index)?;
        let last = first.checked_add(bar.bytes() - 1)?;
        let asked_for_size = last == u32::MAX;
        let unset = first == 0;
        let window = Window { first, last, function, place: Place::Bar(index) };
        (!unset && !asked_for_size).then_some((bar.is_io(), window))
    })
}

impl Window {
    fn range(&self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}
