//! READ TOC and READ DISC INFORMATION: one session with one track of data from sector 0 to the end.

use hv_abi::ata::packet::{
    CdbReadToc, FRAMES_PER_SECOND, LEAD_OUT, MSF_OFFSET, PACKET_BYTES, TOC_FULL, TOC_MSF,
    TOC_SESSIONS, TOC_TRACKS, TRACK_DATA, TocHeader, TocTrack,
};
use zerocopy::IntoBytes;

use super::commands::{Outcome, answer, view, wrong};
use super::drive::Medium;
use crate::storage::scsi::sense::Sense;

impl Medium {
    pub(super) fn read_toc(&self, packet: &[u8; PACKET_BYTES]) -> Result<Outcome, Sense> {
        self.check()?;
        let cdb: CdbReadToc = view(packet)?;
        let msf = cdb.flags & TOC_MSF != 0;
        // Drives before MMC had the format in the last byte.
        let format = match cdb.format & 0x0F {
            0 => cdb.control >> 6,
            format => format,
        };
        let entry = |track, sector| TocTrack {
            _reserved: 0,
            adr_control: TRACK_DATA,
            track,
            _reserved2: 0,
            address: address(sector, msf).into(),
        };
        let entries: Vec<u8> = match (format, cdb.track) {
            (TOC_TRACKS, 0 | 1) => {
                [entry(1, 0), entry(LEAD_OUT, self.sectors())].as_bytes().to_vec()
            }
            (TOC_TRACKS, LEAD_OUT) => entry(LEAD_OUT, self.sectors()).as_bytes().to_vec(),
            (TOC_SESSIONS, _) => entry(1, 0).as_bytes().to_vec(),
            (TOC_FULL, 0 | 1) => full(self.sectors()),
            (TOC_TRACKS | TOC_FULL, _) => return Err(wrong(6)),
            _ => return Err(wrong(2)),
        };
        let length = ((entries.len() + 2) as u16).into();
        let header = TocHeader { length, first: 1, last: 1 };
        Ok(answer([header.as_bytes(), &entries].concat(), cdb.allocation_length.get()))
    }

    /// READ DISC INFORMATION (MMC-3): finished, one complete session.
    pub(super) fn disc_information(&self, packet: &[u8; PACKET_BYTES]) -> Result<Outcome, Sense> {
        const COMPLETE: u8 = 0x0E;
        self.check()?;
        let cdb: CdbReadToc = view(packet)?;
        let mut data = vec![0; 34];
        // First track, sessions, first and last track of the last session; nothing is free for a lead-in or -out.
        let begin = [0, 32, COMPLETE, 1, 1, 1, 1, 0x20];
        data.iter_mut().zip(begin).for_each(|(to, from)| *to = from);
        data.iter_mut().skip(16).take(8).for_each(|byte| *byte = 0xFF);
        Ok(answer(data, cdb.allocation_length.get()))
    }
}

/// A sector's address as a number, or as minute, second and frame.
fn address(sector: u32, msf: bool) -> u32 {
    if !msf {
        return sector;
    }
    let [minute, second, frame] = minutes(sector);
    u32::from_be_bytes([0, minute, second, frame])
}

fn minutes(sector: u32) -> [u8; 3] {
    let frames = sector.saturating_add(MSF_OFFSET);
    let seconds = frames / FRAMES_PER_SECOND;
    let minute = (seconds / 60).min(u8::MAX.into()) as u8;
    [minute, (seconds % 60) as u8, (frames % FRAMES_PER_SECOND) as u8]
}

/// All of the lead-in (MMC-3, *READ TOC/PMA/ATIP*, format 2): first and last track, lead-out, track 1.
fn full(sectors: u32) -> Vec<u8> {
    let entry = |point, [minute, second, frame]: [u8; 3]| {
        [1, TRACK_DATA, 0, point, 0, 0, 0, 0, minute, second, frame]
    };
    [
        entry(0xA0, [1, 0, 0]),
        entry(0xA1, [1, 0, 0]),
        entry(0xA2, minutes(sectors)),
        entry(1, minutes(0)),
    ]
    .concat()
}
