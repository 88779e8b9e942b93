//! MODE SENSE and MODE SELECT.

use alloc::format;

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::sense::AdditionalSense;

use super::target::{Data, ScsiDisk, Target};
use super::{BAD_FIELD, ILLEGAL};
use crate::macros::scsi_cases;
use crate::scsi_client::with_disk;
use crate::support::check;
use crate::{CaseResult, Environment};

scsi_cases! {
    /// Both lengths tell the same pages, with lengths that are right.
    async fn mode_pages_are_the_same_in_both_lengths(scsi) {
        let short = scsi.get(&[ScsiOp::MODE_SENSE_6.0, 8, 0x3F, 0, 255, 0], 255).await?;
        let long = scsi.get(&[ScsiOp::MODE_SENSE_10.0, 8, 0x3F, 0, 0, 0, 0, 0, 255, 0], 255).await?;
        check(short.len() > 4 && long.len() > 8, || "no pages".into())?;
        check(usize::from(short[0]) + 1 == short.len(), || format!("{short:x?}"))?;
        let length = usize::from(u16::from_be_bytes([long[0], long[1]]));
        check(length + 2 == long.len(), || format!("{long:x?}"))?;
        check(short[4..] == long[8..], || format!("{short:x?}, {long:x?}"))
    }

    /// Only those that there are; no subpages.
    async fn a_mode_page_that_is_not_there_is_refused(scsi) {
        for (page, subpage) in [(0x2E, 0), (0x08, 0x55)] {
            let cdb = [ScsiOp::MODE_SENSE_6.0, 0, page, subpage, 255, 0];
            scsi.refused(&cdb, Data::In(255), ILLEGAL, BAD_FIELD).await?;
        }
        Ok(())
    }

    /// Nothing is saved.
    async fn saved_mode_pages_are_refused(scsi) {
        let cdb = [ScsiOp::MODE_SENSE_6.0, 0, 0xC8, 0, 255, 0];
        let code = AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED;
        scsi.refused(&cdb, Data::In(255), ILLEGAL, code).await
    }

    /// What MODE SENSE told can be set again; anything else can't.
    async fn mode_select_takes_what_is_set_already(scsi) {
        let mut pages = scsi.get(&[ScsiOp::MODE_SENSE_6.0, 8, 0x08, 0, 255, 0], 255).await?;
        (pages[0], pages[2]) = (0, 0);
        let bytes = pages.len() as u8;
        let cdb = [ScsiOp::MODE_SELECT_6.0, 0x10, 0, 0, bytes, 0];
        scsi.write(&pages)?;
        scsi.good(&cdb, Data::Out(bytes.into())).await?;
        let last = pages.len() - 1;
        pages[last] ^= 0xFF;
        scsi.write(&pages)?;
        let code = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
        scsi.refused(&cdb, Data::Out(bytes.into()), ILLEGAL, code).await
    }
}
