//! A device that sends back what it gets.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::guid::Guid;
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;

use crate::vmbus::{
    ChannelError, DeviceOffer, GuestRanges, HostChannel, ServeError, VmbusDevice, Wake,
};

/// Answers each packet with a completion of the same payload. Of a packet with ranges of memory it inverts the bytes in
/// them; one in a GPADL names it, and has its bytes inverted.
pub(super) struct Echo {
    pub(super) offer: DeviceOffer,
    /// Sub-channels to offer when the primary channel opens.
    pub(super) sub_channels: AtomicU16,
    /// How many were offered.
    pub(super) offered: AtomicU16,
    /// Channels that are served now.
    pub(super) serving: AtomicU32,
    /// Whoever has this keeps channels from ending.
    pub(super) hold: Mutex<()>,
    /// What the last one was opened with.
    pub(super) open_data: Mutex<[u8; 120]>,
}

impl Echo {
    pub(super) fn new(number: u32) -> Arc<Self> {
        Arc::new(Self::with(offer(number)))
    }

    pub(super) fn with(offer: DeviceOffer) -> Self {
        Self {
            offer,
            sub_channels: AtomicU16::new(0),
            offered: AtomicU16::new(0),
            serving: AtomicU32::new(0),
            hold: Mutex::default(),
            open_data: Mutex::new([0; 120]),
        }
    }
}

pub(super) fn offer(number: u32) -> DeviceOffer {
    let instance = Guid::new(number, 2, 3, 4);
    DeviceOffer::new(&format!("echo{number}"), Guid::new(0xEC40, 0, 0, 1), instance)
}

impl VmbusDevice for Echo {
    fn offer(&self) -> DeviceOffer {
        self.offer.clone()
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        self.serving.fetch_add(1, Ordering::SeqCst);
        *self.open_data.lock().unwrap() = *channel.open_data();
        let wanted = self.sub_channels.load(Ordering::SeqCst);
        if channel.sub_channel_index() == 0 && wanted != 0 {
            let offered = channel.offer_sub_channels(wanted)?;
            self.offered.store(offered, Ordering::SeqCst);
        }
        let result = answer_all(channel);
        drop(self.hold.lock().unwrap());
        self.serving.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

fn answer_all(channel: &mut HostChannel) -> Result<(), ServeError> {
    let mut buffer = vec![0; 1 << 16];
    while channel.wait(&[], None)? != Wake::Closed {
        while let Some(packet) = channel.receive_into(&mut buffer)? {
            match packet.kind() {
                PacketType::DATA_USING_GPA_DIRECT => {
                    invert(&GuestRanges::of_packet(channel.memory(), &packet)?)?;
                }
                PacketType::DATA_USING_GPADL => {
                    let gpadl = channel.gpadl(packet.gpadl()?)?;
                    gpadl.ranges().iter().try_for_each(invert)?;
                }
                _ => {}
            }
            let payload = [packet.payload()];
            send(channel, &OutgoingPacket::completion(packet.transaction_id(), &payload))?;
        }
    }
    Ok(())
}

fn invert(ranges: &GuestRanges) -> Result<(), ServeError> {
    let mut bytes = vec![0; ranges.len() as usize];
    ranges.read(0, &mut bytes)?;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    ranges.write(0, &bytes)?;
    Ok(())
}

fn send(channel: &mut HostChannel, packet: &OutgoingPacket<'_>) -> Result<(), ServeError> {
    loop {
        match channel.send(packet) {
            Err(ChannelError::Full) => {}
            result => return Ok(result?),
        }
        if channel.wait_room(packet.ring_bytes()?, &[], None)? == Wake::Closed {
            return Ok(());
        }
    }
}
