//! What goes to the guest: completions, control messages, frames, in as few packets and signals as there can be.

use hv_abi::nvsp::{
    NVSP_NO_SECTION, NVSP_SEND_TABLE_ENTRIES, NvspChannelType, NvspMessage,
    NvspSendIndirectionTable, NvspSendRndisPacket,
};
use hv_abi::vmbus::packet::TransferPageRange;
use vmbus_ring::{OutgoingKind, OutgoingPacket};
use zerocopy::IntoBytes;

use super::super::message::HostMessage;
use super::super::receive_buffer::ReceiveBuffer;
use super::super::session::Delivery;
use super::{End, Worker};
use crate::vmbus::{ChannelError, HostBatch, HostChannel};

/// Frames in one packet: as many as Linux takes in one turn (`NAPI_POLL_WEIGHT`).
const MAX_RANGES: usize = 64;

/// Whether a packet went into the ring.
enum Pushed {
    Yes,
    /// There is no room for its so many bytes.
    Full(u32),
}

impl Worker<'_> {
    /// Sends all there is, as far as there is room. If there is too little, tells how many bytes are needed; the guest signals
    /// once they are there.
    pub(super) fn send_all(&mut self, channel: &mut HostChannel) -> Result<Option<u32>, End> {
        self.place_control_messages();
        loop {
            let mut batch = channel.batch();
            let result = self.push_all(&mut batch);
            batch.publish();
            match result? {
                Pushed::Yes => return Ok(None),
                Pushed::Full(needed) => {
                    if !channel.await_room(needed)? {
                        return Ok(Some(needed));
                    }
                }
            }
        }
    }

    fn push_all(&mut self, batch: &mut HostBatch<'_>) -> Result<Pushed, ChannelError> {
        while let Some((transaction, message)) = self.completions.front() {
            let parts = [message.as_bytes()];
            let packet = OutgoingPacket::completion(*transaction, &parts);
            if let Pushed::Full(needed) = push(batch, &packet)? {
                return Ok(Pushed::Full(needed));
            }
            self.completions.pop_front();
        }
        if let Pushed::Full(needed) = self.push_send_table(batch)? {
            return Ok(Pushed::Full(needed));
        }
        if let Pushed::Full(needed) = self.push_control_messages(batch)? {
            return Ok(Pushed::Full(needed));
        }
        while !self.deliveries.is_empty() {
            let count = self.deliveries.len().min(MAX_RANGES);
            let deliveries: Vec<_> = self.deliveries.iter().take(count).copied().collect();
            if let Pushed::Full(needed) =
                self.push_transfer(batch, NvspChannelType::DATA, &deliveries)?
            {
                return Ok(Pushed::Full(needed));
            }
            self.deliveries.drain(..count);
            self.device.counters.rx_packets.add(1);
        }
        Ok(Pushed::Yes)
    }

    /// Tells the guest of messages in the receive buffer.
    fn push_transfer(
        &mut self,
        batch: &mut HostBatch<'_>,
        channel_type: NvspChannelType,
        deliveries: &[Delivery],
    ) -> Result<Pushed, ChannelError> {
        // Without a buffer there is nothing in it.
        let Some(buffer) = self.settings.receive.as_ref() else { return Ok(Pushed::Yes) };
        let range = |delivery: &Delivery| TransferPageRange {
            byte_count: delivery.bytes,
            byte_offset: buffer.offset(delivery.part),
        };
        let ranges: Vec<_> = deliveries.iter().map(range).collect();
        let message = NvspSendRndisPacket {
            msg_type: NvspSendRndisPacket::TYPE,
            channel_type,
            send_buf_section_index: NVSP_NO_SECTION,
            send_buf_section_size: 0,
        };
        let message = HostMessage::new(&message, self.settings.version());
        let set_id = buffer.id;
        let kind = OutgoingKind::TransferPages { set_id, sender_owns_set: false, ranges: &ranges };
        let transaction = self.transactions.begin(deliveries.iter().map(|delivery| delivery.part));
        let parts = [message.as_bytes()];
        let packet = OutgoingPacket::new(kind, transaction, &parts).with_completion();
        let pushed = push(batch, &packet);
        if !matches!(pushed, Ok(Pushed::Yes)) {
            self.transactions.end(transaction);
        }
        pushed
    }

    /// Puts answers to the guest's questions into the receive buffer.
    fn place_control_messages(&mut self) {
        let (Some(primary), Some(buffer)) = (&mut self.primary, &self.settings.receive) else {
            return;
        };
        while let Some(message) = primary.messages.front() {
            match place(buffer, message) {
                Placed::Here(delivery) => primary.placed.push_back(delivery),
                Placed::Later => return,
                // No answer is longer than the least part.
                Placed::Never => {}
            }
            primary.messages.pop_front();
        }
    }

    fn push_control_messages(&mut self, batch: &mut HostBatch<'_>) -> Result<Pushed, ChannelError> {
        loop {
            let placed = self.primary.as_ref().and_then(|primary| primary.placed.front().copied());
            let Some(delivery) = placed else { return Ok(Pushed::Yes) };
            if let Pushed::Full(needed) =
                self.push_transfer(batch, NvspChannelType::CONTROL, &[delivery])?
            {
                return Ok(Pushed::Full(needed));
            }
            if let Some(primary) = &mut self.primary {
                primary.placed.pop_front();
            }
        }
    }

    /// Tells the guest which channels to send on, once all are open.
    fn push_send_table(&mut self, batch: &mut HostBatch<'_>) -> Result<Pushed, ChannelError> {
        let channels = self.settings.channels;
        let is_due = |table_of: u16| channels > 1 && table_of != channels;
        let due = self.primary.as_ref().is_some_and(|primary| is_due(primary.table_of));
        if !due || self.session.open(channels) != channels {
            return Ok(Pushed::Yes);
        }
        let (head, table) = send_table(channels);
        let parts = [head.as_bytes(), table.as_bytes()];
        let pushed = push(batch, &OutgoingPacket::in_band(0, &parts))?;
        if let (Pushed::Yes, Some(primary)) = (&pushed, &mut self.primary) {
            primary.table_of = channels;
        }
        Ok(pushed)
    }
}

fn push(batch: &mut HostBatch<'_>, packet: &OutgoingPacket<'_>) -> Result<Pushed, ChannelError> {
    match batch.push(packet) {
        Ok(()) => Ok(Pushed::Yes),
        Err(ChannelError::Full) => Ok(Pushed::Full(packet.ring_bytes()?)),
        Err(error) => Err(error),
    }
}

enum Placed {
    Here(Delivery),
    /// All parts are taken.
    Later,
    /// It does not fit.
    Never,
}

fn place(buffer: &ReceiveBuffer, message: &[u8]) -> Placed {
    if message.len() > buffer.part_bytes() {
        return Placed::Never;
    }
    let Some(part) = buffer.claim(0) else { return Placed::Later };
    match buffer.write(part, 0, message) {
        Ok(()) => Placed::Here(Delivery { part, bytes: message.len() as u32 }),
        Err(_) => {
            buffer.release(0, part);
            Placed::Never
        }
    }
}

/// The message, and the table behind it: flows go to all channels in turn. It lies where Linux looks for it in all versions.
fn send_table(channels: u16) -> (HostMessage, [u32; NVSP_SEND_TABLE_ENTRIES]) {
    let longest = hv_abi::nvsp::NvspVersion::V6_1;
    let message = NvspSendIndirectionTable {
        msg_type: NvspSendIndirectionTable::TYPE,
        count: NVSP_SEND_TABLE_ENTRIES as u32,
        offset: longest.message_bytes() as u32,
    };
    let mut table = [0; NVSP_SEND_TABLE_ENTRIES];
    for (entry, channel) in table.iter_mut().zip((0..u32::from(channels.max(1))).cycle()) {
        *entry = channel;
    }
    (HostMessage::new(&message, longest), table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_table_lies_where_linux_reads_it() {
        // netvsc_send_table: 16 entries, behind the header and union nvsp_6_message_uber (40 bytes).
        let (message, table) = send_table(3);
        assert_eq!(message.as_bytes()[..12], [134, 0, 0, 0, 16, 0, 0, 0, 40, 0, 0, 0]);
        assert_eq!(message.as_bytes().len(), 40);
        assert_eq!(table, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    }
}
