//! Which disks there are, which commands they know, and how they say that something is wrong.

use alloc::format;
use alloc::vec::Vec;

use hv_abi::scsi::ScsiOp;

use super::cdb::{blocks_12, blocks_16};
use super::target::{Data, ScsiDisk, Target};
use super::{BAD_COMMAND, BAD_FIELD, ILLEGAL};
use crate::macros::scsi_cases;
use crate::scsi_client::with_disk;
use crate::support::{check, skip};
use crate::{CaseResult, Environment};

scsi_cases! {
    /// Nothing is wrong with the disk.
    async fn a_disk_is_ready(scsi) {
        scsi.good(&[0; 6], Data::None).await.map(drop)
    }

    /// Sorted, each once, with this disk among them.
    async fn luns_are_reported_once_and_in_order(scsi) {
        let mut cdb = blocks_12(ScsiOp::REPORT_LUNS, 0, 1024);
        cdb[2] = 0;
        let list = scsi.get(&cdb, 1024).await?;
        check(list.len() >= 16, || format!("{} bytes", list.len()))?;
        let length = u32::from_be_bytes([list[0], list[1], list[2], list[3]]) as usize;
        check(list.len() == 8 + length && length.is_multiple_of(8), || format!("length {length}"))?;
        let luns: Vec<_> = list[8..].chunks(8).map(|lun| lun[1]).collect();
        check(luns.is_sorted_by(|one, next| one < next), || format!("{luns:?}"))?;
        check(luns.contains(&scsi.lun), || format!("{} is not among {luns:?}", scsi.lun))
    }

    /// Those in the list are ready, those that are not are none.
    async fn exactly_the_luns_in_the_list_are_there(scsi) {
        let list = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 1024), 1024).await?;
        let luns: Vec<_> = list.get(8..).unwrap_or(&[]).chunks(8).map(|lun| lun[1]).collect();
        for lun in 0..16 {
            let ready = scsi.is_there(lun).await?;
            check(ready == luns.contains(&lun), || format!("LUN {lun}: {ready}, {luns:?}"))?;
        }
        Ok(())
    }

    /// A list that is cut says how long the whole one is.
    async fn a_short_list_of_luns_says_how_many_there_are(scsi) {
        let whole = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 1024), 1024).await?;
        let cut = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 16), 16).await?;
        check(cut.len() == 16 && cut[..] == whole[..16], || format!("{cut:x?}"))
    }

    /// No code of these exists for a disk.
    async fn unknown_commands_are_refused(scsi) {
        for op in [0x01, 0x02, 0x1F, 0x3F, 0x5F, 0x7E, 0x9D, 0xBF, 0xC0, 0xFF] {
            let mut cdb = [0; 16];
            cdb[0] = op;
            let outcome = scsi.run(&cdb, Data::None).await?;
            let error = outcome.error();
            check(error == Some((ILLEGAL, BAD_COMMAND)), || format!("{op:#x}: {error:x?}"))?;
        }
        Ok(())
    }

    /// Fixed format, current, with a length that is right.
    async fn sense_data_is_in_fixed_format(scsi) {
        let outcome = scsi.run(&[0xFF, 0, 0, 0, 0, 0], Data::None).await?;
        let Some(sense) = outcome.sense() else { return check(false, || format!("{outcome:?}")) };
        check(sense.len() >= 14 && sense[0] & 0x7F == 0x70, || format!("{sense:x?}"))?;
        let length = usize::from(sense[7]) + 8;
        check(length >= 14 && length <= 18.max(sense.len()), || format!("{length} bytes"))
    }

    /// There is nothing to tell when there was no error.
    async fn request_sense_has_nothing_to_tell(scsi) {
        let sense = scsi.get(&[ScsiOp::REQUEST_SENSE.0, 0, 0, 0, 18, 0], 18).await?;
        check(sense.len() >= 14 && sense[2] & 0xF == 0, || format!("{sense:x?}"))?;
        let sense = scsi.get(&[ScsiOp::REQUEST_SENSE.0, 1, 0, 0, 18, 0], 18).await?;
        check(sense.len() >= 8 && sense[0] == 0x72 && sense[1] & 0xF == 0, || format!("{sense:x?}"))
    }

    /// NACA is for those who have it.
    async fn naca_is_refused(scsi) {
        scsi.refused(&[0, 0, 0, 0, 0, 4], Data::None, ILLEGAL, BAD_FIELD).await
    }

    /// A command block shorter than its command.
    async fn a_command_cut_short_is_refused(scsi) {
        let cdb = blocks_16(ScsiOp::READ_16, 0, 1);
        for bytes in [1, 6, 15].into_iter().filter(|bytes| *bytes >= scsi.target.least_cdb_bytes()) {
            let outcome = scsi.run(&cdb[..bytes], Data::In(512)).await?;
            check(!outcome.is_good(), || format!("{bytes} bytes are enough"))?;
        }
        scsi.good(&cdb, Data::In(scsi.block_bytes)).await.map(drop)
    }

    /// What is in the list of commands is known, and what is not is refused.
    async fn the_list_of_commands_is_true(scsi) {
        let mut cdb = [0; 12];
        (cdb[0], cdb[1]) = (ScsiOp::MAINTENANCE_IN.0, 0x0C);
        cdb[8] = 0x10;
        let outcome = scsi.run(&cdb, Data::In(4096)).await?;
        if outcome.error() == Some((ILLEGAL, BAD_COMMAND)) {
            return skip("the disk does not list its commands");
        }
        let list = scsi.read(outcome.moved as usize)?;
        check(outcome.is_good() && list.len() > 4, || format!("{outcome:x?}"))?;
        let known: Vec<u8> = list[4..].chunks(8).map(|descriptor| descriptor[0]).collect();
        for op in 0..=255 {
            let mut cdb = [0; 16];
            // Nothing is moved, written or told: no blocks, no room.
            (cdb[0], cdb[1]) = (op, if op == 0x9E { 0x10 } else { 0 });
            if [0x41, 0x93, 0xA3, 0x08, 0x0A].contains(&op) || scsi.target.conceals(&cdb).is_some() {
                continue;
            }
            let error = scsi.run(&cdb, Data::None).await?.error();
            let unknown = error == Some((ILLEGAL, BAD_COMMAND));
            check(unknown != known.contains(&op), || format!("{op:#x}: {error:x?}"))?;
        }
        Ok(())
    }

    /// Started, stopped and started, it is ready; it can't be ejected.
    async fn a_disk_starts_and_stops_but_is_not_ejected(scsi) {
        for flags in [1, 0, 1] {
            scsi.good(&[ScsiOp::START_STOP_UNIT.0, 0, 0, 0, flags, 0], Data::None).await?;
        }
        scsi.good(&[0; 6], Data::None).await?;
        let cdb = [ScsiOp::START_STOP_UNIT.0, 0, 0, 0, 2, 0];
        scsi.refused(&cdb, Data::None, ILLEGAL, BAD_FIELD).await
    }
}
