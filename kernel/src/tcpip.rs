//! What jobs that speak TCP have in common: an interface with the addresses of the command line, and its clock.

use kernel::cmdline::ServeOptions;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::Device;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use vsc_drivers::Hal;

use crate::machine::vmbus::KernelHal;

/// An interface on a card with this address.
pub(crate) fn interface(
    hal: KernelHal,
    device: &mut impl Device,
    mac: [u8; 6],
    options: &ServeOptions,
) -> Interface {
    let mut config = Config::new(EthernetAddress(mac).into());
    // Only so that TCP's first sequence numbers differ from one start to the next.
    config.random_seed = hal.now_100ns();
    let mut interface = Interface::new(config, device, now(hal));
    let address = Ipv4Cidr::new(Ipv4Address::from(options.address), options.prefix);
    interface.update_ip_addrs(|addresses| {
        // There is room for one.
        let _ = addresses.push(IpCidr::Ipv4(address));
    });
    if let Some(gateway) = options.gateway {
        // There is room for one.
        let _ = interface.routes_mut().add_default_ipv4_route(gateway.into());
    }
    interface
}

/// The kernel's time.
pub(crate) fn now(hal: KernelHal) -> Instant {
    Instant::from_micros((hal.now_100ns() / 10) as i64)
}
