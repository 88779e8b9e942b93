//! Disks in memory behind the fake host, and the script by which it misbehaves.
//!
//! Written from SPC-4, SBC-3 and Linux's structures, with offsets as numbers: a second opinion on what the driver sends.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::fake::{HostEnd, HostPacket};

/// A disk.
#[derive(Debug, Clone)]
pub(super) struct MemoryDisk {
    pub(super) block_bytes: u32,
    pub(super) bytes: Vec<u8>,
    /// Blocks that it claims, if not as many as there are bytes for.
    pub(super) claims: Option<u64>,
    pub(super) read_only: bool,
    pub(super) unit_access: bool,
    /// Flags of the page of logical block provisioning; 0: no such page.
    pub(super) provisioning: u8,
    pub(super) max_unmap: u32,
    pub(super) serial: &'static str,
    pub(super) flushes: usize,
}

impl MemoryDisk {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            block_bytes: 512,
            bytes: vec![0; blocks * 512],
            claims: None,
            read_only: false,
            unit_access: false,
            provisioning: 0,
            max_unmap: 0,
            serial: "S1",
            flushes: 0,
        }
    }

    fn blocks(&self) -> u64 {
        self.claims.unwrap_or(self.bytes.len() as u64 / u64::from(self.block_bytes))
    }
}

/// What the host does with a request instead of executing it.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Says this, without executing it.
    Say { scsi: u8, srb: u8, vstor: u32, sense: Vec<u8> },
    /// Never answers.
    Silence,
    /// Answers when the test says so.
    Hold,
    /// Executes it, answers twice.
    Twice,
    /// Executes it, says another number of bytes.
    Moved(u32),
    /// Executes it with this data for the guest.
    Data(Vec<u8>),
    /// Answers with these bytes.
    Raw(Vec<u8>),
    /// Answers with a transaction that differs by these bits, then well.
    Stray(u64),
    /// Refuses an operation.
    Status(u32),
}

impl Act {
    /// CHECK CONDITION with fixed-format sense data.
    pub(super) fn sense(key: u8, code: u16) -> Self {
        let [asc, ascq] = code.to_be_bytes();
        let sense = vec![0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0];
        Self::Say { scsi: 2, srb: 0x84, vstor: 0xC000_0185, sense }
    }
}

/// For which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// SCSI commands with this operation code.
    Command(u8),
    /// Operations of the protocol.
    Operation(u32),
}

/// What the host has seen of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) operation: u32,
    pub(super) cdb: Vec<u8>,
    pub(super) lun: u8,
    pub(super) ranges: usize,
    pub(super) bytes: usize,
    pub(super) payload: usize,
}

/// The host's side of a controller.
pub(super) struct Target {
    pub(super) disks: BTreeMap<u8, MemoryDisk>,
    pub(super) versions: Vec<u16>,
    pub(super) max_transfer: u32,
    pub(super) sub_channels: u16,
    pub(super) rules: Vec<(On, usize, Act)>,
    pub(super) log: Vec<Seen>,
    pub(super) held: Vec<HostPacket>,
    pub(super) asked_sub_channels: u16,
    version: u16,
}

impl Target {
    pub(super) fn new() -> Self {
        Self {
            disks: BTreeMap::from([(0, MemoryDisk::new(4096))]),
            versions: vec![0x0602, 0x0600, 0x0501, 0x0402, 0x0200],
            max_transfer: 0x4_0000,
            sub_channels: 0,
            rules: Vec::new(),
            log: Vec::new(),
            held: Vec::new(),
            asked_sub_channels: 0,
            version: 0,
        }
    }

    /// The primary channel was opened: the conversation begins anew.
    pub(super) fn begin(&mut self) {
        self.version = 0;
    }

    /// From now on does `act` for the next `times` such requests.
    pub(super) fn rule(&mut self, on: On, times: usize, act: Act) {
        self.rules.push((on, times, act));
    }

    pub(super) fn commands(&self, op: u8) -> usize {
        self.log.iter().filter(|seen| seen.operation == 3 && seen.cdb[0] == op).count()
    }

    pub(super) fn operations(&self, operation: u32) -> usize {
        self.log.iter().filter(|seen| seen.operation == operation).count()
    }

    /// Serves one packet.
    pub(super) fn serve(&mut self, end: &HostEnd, packet: HostPacket) {
        let operation = word(&packet.payload, 0);
        self.note(&packet, operation);
        let on =
            if operation == 3 { On::Command(packet.payload[28]) } else { On::Operation(operation) };
        match self.act(on) {
            Some(act) => self.misbehave(end, packet, act),
            None => self.answer(end, &packet, None),
        }
    }

    fn note(&mut self, packet: &HostPacket, operation: u32) {
        assert!(packet.completion_requested && packet.transaction_id != 0);
        assert_eq!(word(&packet.payload, 4), 1, "REQUEST_COMPLETION_FLAG");
        // What hosts insist on: 48 bytes before version 5.1 and while the version is not known, else 64; one range.
        let expected = if self.version >= 0x0501 { 64 } else { 48 };
        assert_eq!(packet.payload.len(), expected);
        assert!(packet.ranges.len() <= 1);
        let bytes = packet.ranges.iter().map(|range| range.bytes as usize).sum();
        if operation == 3 {
            assert_eq!(bytes, word(&packet.payload, 24) as usize, "data_transfer_length");
        }
        self.log.push(Seen {
            operation,
            cdb: packet.payload[28..44].to_vec(),
            lun: packet.payload[19],
            ranges: packet.ranges.len(),
            bytes,
            payload: packet.payload.len(),
        });
    }

    fn act(&mut self, on: On) -> Option<Act> {
        let index = self.rules.iter().position(|(rule, times, _)| *rule == on && *times > 0)?;
        let (_, times, act) = &mut self.rules[index];
        *times -= 1;
        Some(act.clone())
    }

    fn misbehave(&mut self, end: &HostEnd, packet: HostPacket, act: Act) {
        match act {
            Act::Say { scsi, srb, vstor, sense } => {
                let bytes = reply(&packet, vstor, srb, scsi, word(&packet.payload, 24), &sense);
                end.complete(&packet, &bytes);
            }
            Act::Silence => {}
            Act::Hold => self.held.push(packet),
            Act::Twice => {
                self.answer(end, &packet, None);
                self.answer(end, &packet, None);
            }
            Act::Moved(bytes) => self.answer(end, &packet, Some(bytes)),
            Act::Data(bytes) => {
                let moved = end.write_ranges(&packet, &bytes) as u32;
                end.complete(&packet, &reply(&packet, 0, 1, 0, moved, &[]));
            }
            Act::Raw(bytes) => end.complete(&packet, &bytes),
            Act::Stray(bits) => {
                let transaction_id = packet.transaction_id ^ bits;
                let stray = HostPacket { transaction_id, ..packet.clone() };
                end.complete(&stray, &reply(&packet, 0, 1, 0, word(&packet.payload, 24), &[]));
                self.answer(end, &packet, None);
            }
            Act::Status(status) => end.complete(&packet, &reply(&packet, status, 0, 0, 0, &[])),
        }
    }

    /// Answers a request that was held.
    pub(super) fn release(&mut self, end: &HostEnd, index: usize) {
        let packet = self.held.remove(index);
        self.answer(end, &packet, None);
    }

    fn answer(&mut self, end: &HostEnd, packet: &HostPacket, moved: Option<u32>) {
        let bytes = match word(&packet.payload, 0) {
            3 => self.execute(end, packet, moved),
            9 => self.version_answer(packet),
            10 => self.properties(packet),
            13 => {
                self.asked_sub_channels =
                    u16::from_le_bytes([packet.payload[12], packet.payload[13]]);
                reply(packet, 0, 0, 0, 0, &[])
            }
            _ => reply(packet, 0, 0, 0, 0, &[]),
        };
        end.complete(packet, &bytes);
    }

    fn version_answer(&mut self, packet: &HostPacket) -> Vec<u8> {
        let asked = u16::from_le_bytes([packet.payload[12], packet.payload[13]]);
        if self.versions.contains(&asked) {
            self.version = asked;
            return reply(packet, 0, 0, 0, 0, &[]);
        }
        reply(packet, 0xC000_0059, 0, 0, 0, &[])
    }

    fn properties(&self, packet: &HostPacket) -> Vec<u8> {
        let mut bytes = reply(packet, 0, 0, 0, 0, &[]);
        bytes[16..18].copy_from_slice(&self.sub_channels.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.sub_channels > 0).to_le_bytes());
        bytes[24..28].copy_from_slice(&self.max_transfer.to_le_bytes());
        bytes
    }

    fn execute(&mut self, end: &HostEnd, packet: &HostPacket, moved: Option<u32>) -> Vec<u8> {
        let cdb = &packet.payload[28..44];
        let lun = packet.payload[19];
        if cdb[0] == 0xA0 {
            let list: Vec<u8> = self.disks.keys().copied().collect();
            let data = lun_list(&list);
            return give(end, packet, &data, moved);
        }
        let Some(disk) = self.disks.get_mut(&lun) else {
            return reply(packet, 0, 0x20, 2, 0, &[]);
        };
        match disk.run(end, packet, cdb) {
            Ok(Outcome::Data(data)) => give(end, packet, &data, moved),
            Ok(Outcome::Taken(bytes)) => reply(packet, 0, 1, 0, moved.unwrap_or(bytes), &[]),
            Err(sense) => reply(packet, 0xC000_0185, 0x84, 2, 0, &sense),
        }
    }
}

enum Outcome {
    /// For the guest.
    Data(Vec<u8>),
    /// From the guest, or none.
    Taken(u32),
}

fn give(end: &HostEnd, packet: &HostPacket, data: &[u8], moved: Option<u32>) -> Vec<u8> {
    let written =
        end.write_ranges(packet, data.get(..word(&packet.payload, 24) as usize).unwrap_or(data));
    reply(packet, 0, 1, 0, moved.unwrap_or(written as u32), &[])
}

fn lun_list(luns: &[u8]) -> Vec<u8> {
    let mut data = (luns.len() as u32 * 8).to_be_bytes().to_vec();
    data.extend([0; 4]);
    for lun in luns {
        data.extend([0, *lun, 0, 0, 0, 0, 0, 0]);
    }
    data
}

fn illegal(code: u16) -> Vec<u8> {
    match Act::sense(5, code) {
        Act::Say { sense, .. } => sense,
        _ => unreachable!(),
    }
}

impl MemoryDisk {
    fn run(&mut self, end: &HostEnd, packet: &HostPacket, cdb: &[u8]) -> Result<Outcome, Vec<u8>> {
        match cdb[0] {
            0x00 => Ok(Outcome::Taken(0)),
            0x12 => self.inquiry(cdb),
            0x1A => {
                let flags = u8::from(self.read_only) << 7 | u8::from(self.unit_access) << 4;
                Ok(Outcome::Data(vec![3, 0, flags, 0]))
            }
            0x25 => Ok(Outcome::Data(self.capacity_10())),
            0x9E => Ok(Outcome::Data(self.capacity_16())),
            0x28 | 0x88 => {
                let (start, len) = self.extent(cdb)?;
                Ok(Outcome::Data(self.bytes[start..start + len].to_vec()))
            }
            0x2A | 0x8A => {
                let (start, len) = self.extent(cdb)?;
                self.bytes[start..start + len].copy_from_slice(&end.read_ranges(packet));
                Ok(Outcome::Taken(len as u32))
            }
            0x35 => {
                self.flushes += 1;
                Ok(Outcome::Taken(0))
            }
            0x42 => self.unmap(&end.read_ranges(packet)),
            0x93 => self.same(cdb, &end.read_ranges(packet)),
            _ => Err(illegal(0x2000)),
        }
    }

    fn inquiry(&self, cdb: &[u8]) -> Result<Outcome, Vec<u8>> {
        let page = |code: u8, data: &[u8]| {
            let mut page = vec![0, code, 0, data.len() as u8];
            page.extend(data);
            Ok(Outcome::Data(page))
        };
        if cdb[1] & 1 == 0 {
            let mut data = vec![0, 0, 5, 2, 31, 0, 0, 2];
            data.extend(b"Msft    Virtual Disk    1.0 ");
            return Ok(Outcome::Data(data));
        }
        match cdb[2] {
            0x00 => page(0, &[0x00, 0x80, 0x83, 0xB0, 0xB2]),
            0x80 => page(0x80, self.serial.as_bytes()),
            0x83 => page(0x83, &[1, 3, 0, 8, 0x30, 1, 2, 3, 4, 5, 6, 7]),
            0xB0 => {
                let mut limits = [0; 60];
                limits[16..20].copy_from_slice(&self.max_unmap.to_be_bytes());
                limits[23] = u8::from(self.max_unmap > 0);
                page(0xB0, &limits)
            }
            0xB2 => page(0xB2, &[0, self.provisioning, 2, 0]),
            _ => Err(illegal(0x2400)),
        }
    }

    fn capacity_10(&self) -> Vec<u8> {
        let last = u32::try_from(self.blocks().wrapping_sub(1)).unwrap_or(u32::MAX);
        [last.to_be_bytes(), self.block_bytes.to_be_bytes()].concat()
    }

    fn capacity_16(&self) -> Vec<u8> {
        let mut data = self.blocks().wrapping_sub(1).to_be_bytes().to_vec();
        data.extend(self.block_bytes.to_be_bytes());
        data.extend([0, 3, u8::from(self.provisioning != 0) << 7, 0]);
        data.extend([0; 16]);
        data
    }

    fn extent(&self, cdb: &[u8]) -> Result<(usize, usize), Vec<u8>> {
        let number =
            |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let (lba, blocks) = match cdb[0] >> 5 {
            1 => (number(&cdb[2..6]), number(&cdb[7..9])),
            _ => (number(&cdb[2..10]), number(&cdb[10..14])),
        };
        let block = u64::from(self.block_bytes);
        let (start, len) = ((lba * block) as usize, (blocks * block) as usize);
        if start + len <= self.bytes.len() { Ok((start, len)) } else { Err(illegal(0x2100)) }
    }

    fn unmap(&mut self, data: &[u8]) -> Result<Outcome, Vec<u8>> {
        let descriptors = u16::from_be_bytes([data[2], data[3]]) as usize;
        if descriptors + 6 != u16::from_be_bytes([data[0], data[1]]) as usize {
            return Err(illegal(0x2600));
        }
        for descriptor in data[8..8 + descriptors].chunks(16) {
            let lba = u64::from_be_bytes(descriptor[..8].try_into().unwrap()) as usize;
            let blocks = u32::from_be_bytes(descriptor[8..12].try_into().unwrap());
            if blocks > self.max_unmap {
                return Err(illegal(0x2600));
            }
            self.bytes[lba * 512..][..blocks as usize * 512].fill(0);
        }
        Ok(Outcome::Taken(data.len() as u32))
    }

    fn same(&mut self, cdb: &[u8], data: &[u8]) -> Result<Outcome, Vec<u8>> {
        let (start, len) = self.extent(cdb)?;
        for block in self.bytes[start..start + len].chunks_mut(data.len()) {
            block.copy_from_slice(data);
        }
        Ok(Outcome::Taken(data.len() as u32))
    }
}

/// An answer as long as the question.
fn reply(packet: &HostPacket, vstor: u32, srb: u8, scsi: u8, moved: u32, sense: &[u8]) -> Vec<u8> {
    let mut bytes = packet.payload.clone();
    bytes[0..4].copy_from_slice(&1u32.to_le_bytes());
    bytes[4..8].fill(0);
    bytes[8..12].copy_from_slice(&vstor.to_le_bytes());
    if word(&packet.payload, 0) == 3 {
        bytes[14..16].copy_from_slice(&[srb, scsi]);
        bytes[21] = sense.len() as u8;
        bytes[24..28].copy_from_slice(&moved.to_le_bytes());
        bytes[28..28 + sense.len()].copy_from_slice(sense);
    }
    bytes
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
