//! A host's messages at the guest's end of VMBus: any messages, in between what a guest does with a bus.
//!
//! The host behaves otherwise, so that the guest gets far. Nothing may panic, wait for ever, or break a rule that holds for any
//! host (those the fake host insists on).

#![no_main]

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;
use libfuzzer_sys::fuzz_target;
use vsc_drivers::fake::{FakeHal, FakeHost, FakeOffer};
use vsc_drivers::task::sleep_until;
use vsc_drivers::{
    BusOptions, Channel, ChannelId, DmaBuffer, Hal, OpenParams, SharedBuffer, Vmbus, block_on,
};

const INTERFACE: Guid = Guid::new(1, 2, 3, 4);
/// Enough for any seed, and little enough that all time limits together end before the fake's clock.
const MAX_STEPS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Some((&version, steps)) = bytes.split_first() else { return };
    let version = VmbusVersion::ALL[usize::from(version) % VmbusVersion::ALL.len()];
    let host = FakeHost::new();
    host.forgive();
    let channel = host.offer(FakeOffer::new(INTERFACE));
    let options = BusOptions { inbox_bytes: 4096, ..BusOptions::default().forced(version) };
    let mut guest = Guest { bus: host.bus(options), host, channel, open: None, shared: Vec::new() };
    let bus = guest.bus.clone();
    block_on(bus.hal(), bus.run(), guest.live(steps));
    assert!(bus.offers().len() <= options.max_channels);
});

struct Guest {
    bus: Vmbus<FakeHal>,
    host: FakeHost,
    channel: ChannelId,
    open: Option<Channel<FakeHal>>,
    shared: Vec<SharedBuffer<FakeHal>>,
}

impl Guest {
    /// Takes one step after another, then tidies up.
    async fn live(&mut self, mut steps: &[u8]) {
        let _ = self.bus.connect().await;
        for _ in 0..MAX_STEPS {
            let Some((&step, rest)) = steps.split_first() else { break };
            steps = self.step(step, rest).await;
        }
        self.shared.clear();
        self.open = None;
        let _ = self.bus.unload().await;
        // The bus's task does what is left.
        let then = self.bus.hal().now_100ns() + 60 * vsc_drivers::SECOND_100NS;
        sleep_until(self.bus.hal(), then).await;
    }

    /// Takes one step, which may use some of what follows; returns the others.
    async fn step<'b>(&mut self, step: u8, rest: &'b [u8]) -> &'b [u8] {
        match step {
            0 => {
                // Lets the bus's task see what came.
                let then = self.bus.hal().now_100ns() + 1;
                sleep_until(self.bus.hal(), then).await;
            }
            1 => self.open = self.bus.open(self.channel, &OpenParams::default()).await.ok(),
            2 => self.open = None,
            3 => self.share(1).await,
            4 => self.share(60).await,
            5 => drop(self.shared.pop()),
            6 => self.host.rescind(self.channel),
            7 => self.channel = self.host.offer(FakeOffer::new(INTERFACE)),
            8 => {
                let _ = self.bus.unload().await;
                let _ = self.bus.connect().await;
            }
            9 => {
                if let Some(open) = &self.open {
                    let _ = open.set_target_vp(1).await;
                }
            }
            10 => {
                if let Some(open) = &self.open {
                    let _ = open.sub_channel(1).await;
                }
            }
            11 => {
                if let Some(shared) = self.shared.pop() {
                    let _ = shared.unshare().await;
                }
            }
            12..16 => self.host.set_flag(u16::from(step - 12) * 700),
            // A message of so many bytes.
            length => {
                let (message, rest) = rest.split_at(rest.len().min(length.into()));
                self.host.deliver(message);
                return rest;
            }
        }
        rest
    }

    async fn share(&mut self, pages: usize) {
        let Some(open) = &self.open else { return };
        let buffer = DmaBuffer::new(self.bus.hal(), pages).expect("the process has memory");
        self.shared.extend(open.share(buffer).await.ok());
    }
}
