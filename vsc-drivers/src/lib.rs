//! A VMBus client, and drivers for Hyper-V's synthetic devices, for any Rust kernel or unikernel.
//!
//! Hyper-V, and hosts that speak like it, give a guest disks, network adapters and more without emulated registers: devices are
//! found on VMBus, a bus made of messages and shared memory. This crate is the guest's side: the bus's client, and the drivers on top
//! of it.
//!
//! The crate is `no_std` with `alloc`, and knows no kernel: a kernel implements one trait, [`Hal`] (memory, two hypercalls, a clock, a
//! way to wait). Everything that waits is a future; any executor may poll it, and [`block_on`] is there for kernels without one.
//!
//! | module | what for |
//! | --- | --- |
//! | [`hal`] | what a kernel supplies; memory that the host reaches too |
//! | [`bus`] | the connection: versions, offers, messages and event flags |
//! | [`channel`] | an open channel: packets both ways, shared memory, sub-channels |
//! | [`registry`] | plug and play: which driver starts for what is offered |
//! | [`storvsc`] | disks |
//! | [`netvsc`] | network adapters |
//! | [`ic`] | heartbeat, shutdown, time, keys and values |
//! | [`task`] | waiting: [`block_on`], time limits |
//! | `fake` | a machine and a host for tests |
//!
//! # In your kernel
//!
//! ```
//! # use vsc_drivers::fake::{FakeHal as Kernel, FakeHost, FakeOffer};
//! # use hv_abi::guid::Guid;
//! use vsc_drivers::task::both;
//! use vsc_drivers::{
//!     BusOptions, ChannelError, DriverTask, Offer, OpenParams, OutgoingPacket, Packet, Registry, Vmbus,
//!     block_on,
//! };
//!
//! # /*
//! unsafe impl Hal for Kernel { … }
//! # */
//!
//! /// The handler of the interrupt source that the bus uses ([`BusOptions::sint`]), on every processor. `hv-enlightenments`
//! /// has the message and the flags: `Synic::take_message`, `EventFlagsPage::take`.
//! fn on_interrupt(bus: &Vmbus<Kernel>, message: Option<&[u8]>, flags: &[u16]) {
//!     flags.iter().for_each(|&flag| bus.on_event(flag));
//!     if let Some(payload) = message {
//!         bus.on_message(payload);
//!     }
//! }
//!
//! /// A driver of your own: greets its device, and prints what that says.
//! async fn talk(bus: Vmbus<Kernel>, offer: Offer) -> Result<(), ChannelError> {
//!     let channel = bus.open(offer.channel, &OpenParams::default()).await?;
//!     channel.send(&OutgoingPacket::in_band(1, &[b"good day"])).await?;
//!     loop {
//!         channel.wait().await?; // an error once the device is gone
//!         let print = |packet: Packet<'_>| println!("{:?}", packet.payload());
//!         while channel.try_receive(&mut [0; 256], print)?.is_some() {}
//!     }
//! }
//!
//! # const TALKER: Guid = Guid::new(1, 2, 3, 4);
//! # fn boot(kernel: Kernel, host: FakeHost) -> Result<(), vsc_drivers::BusError> {
//! let start = |bus: &Vmbus<Kernel>, offer: Offer| -> DriverTask {
//!     let device = talk(bus.clone(), offer);
//!     Box::pin(async { println!("talker: {:?}", device.await) })
//! };
//! let registry = Registry::new().with(TALKER, start);
//! let bus = Vmbus::new(kernel, BusOptions::default()); // where the handler finds it
//! # let bus = host.bus(BusOptions::default());
//! block_on(bus.hal(), both(bus.run(), registry.run(&bus)), async {
//!     let version = bus.connect().await?;
//!     bus.all_offers_delivered().await?;
//!     println!("VMBus {version}: {:?}", bus.offers());
//!     // … the rest of the kernel.
//! #   let end = host.opened(bus.offers()[0].channel).await;
//! #   assert_eq!(end.receive().await.unwrap().payload, b"good day");
//! #   on_interrupt(&bus, Some(&[]), &[0, 1]);
//!     bus.unload().await
//! })
//! # }
//! # let host = FakeHost::new();
//! # host.offer(FakeOffer::new(TALKER));
//! # boot(host.hal(), host).unwrap();
//! ```
//!
//! # What is promised
//!
//! - Nothing that the host says is trusted: shared memory is copied once, then checked. A host can be wrong, but it can't make this
//!   crate panic, wait for ever for an answer, use memory without bounds, or touch memory that it was not given. What it should not have said
//!   is counted ([`Vmbus::counts`]), or is an error with a name.
//! - Memory that the host may still use is never freed, whatever is dropped when: it is freed when the host says that it has done with it,
//!   and kept as long as it does not.
//! - Interrupt handlers ([`Vmbus::on_message`], [`Vmbus::on_event`]) neither allocate nor free nor wait (`tests/interrupts.rs`).
//! - Channels share no lock when packets are sent and received.
//! - Every version of the protocol from 0.13 to 6.0 is spoken; [`BusOptions::forced`] asks for one.
//!
//! # Features
//!
//! `smoltcp`, `embassy`: network adapters as devices of these stacks. `fake`: `fake`, a machine with a host that misbehaves on request,
//! for tests of drivers; needs `std`.
//!
//! # Tests
//!
//! ```text
//! cargo test -p vsc-drivers
//! tests/fuzz/run.sh bus_messages
//! ```

#![no_std]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod bus;
pub mod channel;
mod counter;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod hal;
pub mod ic;
pub mod netvsc;
pub mod registry;
pub mod storvsc;
pub mod task;
#[cfg(test)]
mod testing;

pub use bus::{
    BusCounts, BusError, BusOptions, Change, ChannelError, ChannelId, Offer, Request, Vmbus,
};
pub use channel::{Channel, OpenParams, SharedBuffer};
pub use counter::Counter;
pub use hal::{DmaBuffer, DmaPages, Gpa, Hal, OutOfRange};
pub use registry::{Driver, DriverTask, Registry};
pub use task::block_on;
pub use vmbus_ring::{GpaRange, OutgoingPacket, Packet};

/// A second in the units of [`Hal::now_100ns`].
pub const SECOND_100NS: u64 = 10_000_000;
