//! Packets: what each asks for (MMC-3, SPC).

use hv_abi::ata::packet::{
    GET_CONFIGURATION, GET_EVENT_STATUS, MECHANISM_STATUS, PACKET_BYTES, READ_DISC_INFORMATION,
    READ_TOC,
};
use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{
    CdbBlocks10, CdbBlocks12, CdbPreventAllow, CdbStartStop, START_STOP_LOEJ, START_STOP_START,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::SECTOR;
use super::drive::Medium;
use crate::storage::disk::ByteRange;
use crate::storage::scsi::sense::Sense;

/// SEEK (10) (MMC-3).
const SEEK_10: ScsiOp = ScsiOp(0x2B);

/// What comes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Good,
    /// It is done, and the guest gets this.
    Answer(Vec<u8>),
    /// The guest gets these bytes of the medium.
    Read(ByteRange),
    /// It can't be done.
    Fail(Sense),
}

/// A packet as one of the layouts of command blocks, all of which are shorter.
pub(super) fn view<T: FromBytes + KnownLayout + Immutable>(
    packet: &[u8; PACKET_BYTES],
) -> Result<T, Sense> {
    T::read_from_prefix(packet).map(|(view, _)| view).map_err(|_| Sense::INVALID_OPCODE)
}

impl Medium {
    /// Looks at a packet.
    pub(super) fn execute(&mut self, packet: &[u8; PACKET_BYTES]) -> Outcome {
        self.run(packet).unwrap_or_else(Outcome::Fail)
    }

    fn run(&mut self, packet: &[u8; PACKET_BYTES]) -> Result<Outcome, Sense> {
        let [op, ..] = *packet;
        let op = ScsiOp(op);
        // These tell of it, or are asked before anything else (SPC-4, *Unit attention condition*; MMC-3).
        let unaware = [ScsiOp::INQUIRY, ScsiOp::REQUEST_SENSE, GET_CONFIGURATION, GET_EVENT_STATUS];
        if !unaware.contains(&op)
            && let Some(news) = self.take_attention()
        {
            return Err(Sense::attention(news));
        }
        match op {
            ScsiOp::TEST_UNIT_READY => self.check().map(|()| Outcome::Good),
            ScsiOp::REQUEST_SENSE => self.request_sense(packet),
            ScsiOp::INQUIRY => self.inquiry(packet),
            ScsiOp::START_STOP_UNIT => self.start_stop(packet),
            ScsiOp::PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.lock(view::<CdbPreventAllow>(packet)?.prevent & 1 != 0);
                Ok(Outcome::Good)
            }
            ScsiOp::READ_CAPACITY_10 => self.read_capacity(),
            ScsiOp::READ_10 => {
                let cdb: CdbBlocks10 = view(packet)?;
                self.read(cdb.lba.get(), cdb.blocks.get().into())
            }
            ScsiOp::READ_12 => {
                let cdb: CdbBlocks12 = view(packet)?;
                self.read(cdb.lba.get(), cdb.blocks.get())
            }
            SEEK_10 => self.range(view::<CdbBlocks10>(packet)?.lba.get(), 0).map(|_| Outcome::Good),
            ScsiOp::MODE_SENSE_10 => self.mode_sense(packet),
            READ_TOC => self.read_toc(packet),
            GET_CONFIGURATION => self.get_configuration(packet),
            GET_EVENT_STATUS => self.get_event_status(packet),
            READ_DISC_INFORMATION => self.disc_information(packet),
            MECHANISM_STATUS => Ok(Self::mechanism_status(packet)),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    fn range(&self, first: u32, count: u32) -> Result<ByteRange, Sense> {
        self.check()?;
        let (first, count) = (u64::from(first), u64::from(count));
        let sectors = u64::from(self.sectors());
        if first + count > sectors || first >= sectors {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok(ByteRange::new(first * SECTOR, count * SECTOR))
    }

    fn read(&self, first: u32, count: u32) -> Result<Outcome, Sense> {
        let range = self.range(first, count)?;
        Ok(if range.length == 0 { Outcome::Good } else { Outcome::Read(range) })
    }

    fn start_stop(&mut self, packet: &[u8; PACKET_BYTES]) -> Result<Outcome, Sense> {
        const POWER_CONDITION: u8 = 0xF0;
        let flags = view::<CdbStartStop>(packet)?.flags;
        if flags & POWER_CONDITION != 0 {
            return Ok(Outcome::Good);
        }
        match (flags & START_STOP_LOEJ != 0, flags & START_STOP_START != 0) {
            (true, false) => self.eject()?,
            (true, true) => self.load(),
            (false, true) => self.check()?,
            (false, false) => {}
        }
        Ok(Outcome::Good)
    }
}

/// A wrong field of a packet.
pub(super) fn wrong(byte: u16) -> Sense {
    Sense::invalid_field(byte)
}

/// An answer, of which the command has room for so many bytes.
pub(super) fn answer(mut bytes: Vec<u8>, allocation: impl Into<usize>) -> Outcome {
    bytes.truncate(allocation.into());
    Outcome::Answer(bytes)
}
