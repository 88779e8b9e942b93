//! Packets as bytes: taking the guest's apart, putting answers together.

use hv_abi::storvsp::{
    Operation, ProtocolVersion, SRB_BYTES, SRB_BYTES_BEFORE_V5_1, VmscsiRequest, VstorHeader,
    VstorStatus,
};
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::Packet;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::error::StorvspError;

const HEADER_BYTES: usize = size_of::<VstorHeader>();
/// Bytes of the longest packet.
pub(super) const MAX_PACKET_BYTES: usize = HEADER_BYTES + SRB_BYTES;

/// What the guest asks for, as far as it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// The guest's number for it.
    pub(super) transaction: u64,
    /// Bytes of the packet that count; the answer has as many.
    pub(super) bytes: usize,
    /// What.
    pub(super) operation: Operation,
    /// What follows the header, with zeros behind.
    payload: [u8; SRB_BYTES],
}

impl Question {
    /// Reads a packet.
    ///
    /// # Errors
    /// It can't be answered.
    pub(super) fn read(packet: &Packet<'_>) -> Result<Self, StorvspError> {
        match packet.kind() {
            PacketType::DATA_INBAND | PacketType::DATA_USING_GPA_DIRECT => {}
            PacketType::COMP => {
                return Err(StorvspError::UnexpectedCompletion(packet.transaction_id()));
            }
            kind => return Err(StorvspError::PacketKind(kind)),
        }
        if !packet.completion_requested() {
            return Err(StorvspError::NoCompletionRequested);
        }
        Self::parse(packet.transaction_id(), packet.payload())
    }

    /// Reads the payload of a packet.
    ///
    /// # Errors
    /// There is no header.
    pub(super) fn parse(transaction: u64, bytes: &[u8]) -> Result<Self, StorvspError> {
        let (header, rest) =
            VstorHeader::read_from_prefix(bytes).map_err(|_| StorvspError::Short(bytes.len()))?;
        let mut payload = [0; SRB_BYTES];
        payload.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let bytes = bytes.len().min(MAX_PACKET_BYTES);
        Ok(Self { transaction, bytes, operation: header.operation, payload })
    }

    /// The SCSI request, if there is a whole one. What only newer versions have is zero in older ones.
    pub(super) fn srb(&self) -> Option<VmscsiRequest> {
        if self.bytes < HEADER_BYTES + SRB_BYTES_BEFORE_V5_1 {
            return None;
        }
        VmscsiRequest::read_from_bytes(&self.payload).ok()
    }

    /// The version that is asked for.
    pub(super) fn version(&self) -> ProtocolVersion {
        ProtocolVersion::read_from_prefix(&self.payload)
            .map_or_else(|_| ProtocolVersion::new_zeroed(), |(version, _)| version)
    }

    /// The number of sub-channels that are asked for.
    pub(super) fn sub_channels(&self) -> u16 {
        let [low, high, ..] = self.payload;
        u16::from_le_bytes([low, high])
    }

    /// An answer without more.
    pub(super) fn answer(&self, status: VstorStatus) -> Answer {
        self.answer_with(status, &[0_u8; 0])
    }

    /// An answer with this behind its header, as much of it as the question has room for.
    pub(super) fn answer_with<T: IntoBytes + Immutable + ?Sized>(
        &self,
        status: VstorStatus,
        payload: &T,
    ) -> Answer {
        let header = VstorHeader { operation: Operation::COMPLETE_IO, flags: 0, status };
        Answer::new(Some(self.transaction), self.bytes, &header, payload.as_bytes())
    }
}

/// A packet to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// What it answers; `None` if it was not asked for.
    pub(super) transaction: Option<u64>,
    bytes: [u8; MAX_PACKET_BYTES],
    length: usize,
}

impl Answer {
    fn new(transaction: Option<u64>, length: usize, header: &VstorHeader, payload: &[u8]) -> Self {
        let mut bytes = [0; MAX_PACKET_BYTES];
        let content = header.as_bytes().iter().chain(payload);
        bytes.iter_mut().zip(content).take(length).for_each(|(to, from)| *to = *from);
        Self { transaction, bytes, length }
    }

    /// News that nobody asked for, in a packet of so many bytes.
    pub(super) fn news(operation: Operation, length: usize) -> Self {
        let header = VstorHeader { operation, flags: 0, status: VstorStatus::SUCCESS };
        Self::new(None, length, &header, &[])
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}
