//! Devices on PCI, where there are any.

use kernel::pci;

use super::{TestResult, check, guest_test, skip};
use crate::machine::pci::Ports;

guest_test!(functions_are_where_they_were);

fn functions_are_where_they_were() -> TestResult {
    let found = pci::scan(&Ports);
    if found.is_empty() {
        skip!("no PCI");
    }
    for device in &found {
        log::debug!("{device:x?}");
    }
    check!(pci::scan(&Ports) == found, "a second look finds something else");
    let order = found.is_sorted_by_key(|device| device.address);
    check!(order, "not in the order of their addresses: {found:x?}");
    Ok(())
}
