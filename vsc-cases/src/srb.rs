//! The request around a SCSI command, with bytes that no driver would write.

use alloc::format;

use hv_abi::scsi::ScsiOp;
use hv_abi::storvsp::{SrbFlags, SrbStatus};

use crate::macros::cases;
use crate::scsi::cdb::blocks_10;
use crate::scsi::target::{Data, Target};
use crate::scsi_client::with_disk;
use crate::support::check;
use crate::{CaseResult, Environment};

cases! { with_disk:
    /// What there is no disk for is said so, not executed.
    async fn a_disk_that_is_not_there_does_nothing(_, scsi) {
        for lun in [63, 64, 200, 255] {
            for (cdb, data) in [
                (&[0; 6][..], Data::None),
                (&blocks_10(ScsiOp::READ_10, 0, 1), Data::In(512)),
                (&blocks_10(ScsiOp::WRITE_10, 0, 1), Data::Out(512)),
            ] {
                let outcome = scsi.target.run(lun, cdb, data).await?;
                check(!outcome.is_good(), || format!("LUN {lun} does {cdb:x?}"))?;
            }
        }
        Ok(())
    }

    /// Nor on another bus or target.
    async fn other_addresses_have_no_disks(_, scsi) {
        for (path, target) in [(1, 0), (0, 1), (255, 255)] {
            let mut request = scsi.target.request(scsi.lun, &[0; 6], Data::None);
            (request.path_id, request.target_id) = (path, target);
            let outcome = scsi.target.submit(&request, 0).await?;
            check(!outcome.is_good(), || format!("{path}:{target} has a disk"))?;
        }
        Ok(())
    }

    /// Sense data does not overflow the room for it.
    async fn sense_data_is_cut_to_its_room(_, scsi) {
        for room in [0, 1, 8, 14] {
            let mut request = scsi.target.request(scsi.lun, &[0xFF, 0, 0, 0, 0, 0], Data::None);
            request.sense_info_length = room;
            let outcome = scsi.target.submit(&request, 0).await?;
            let length = outcome.sense().map_or(0, <[u8]>::len);
            check(!outcome.is_good() && length <= usize::from(room), || format!("{outcome:x?}"))?;
        }
        Ok(())
    }

    /// Whoever wants no sense data gets none, but the error all the same.
    async fn sense_data_can_be_declined(_, scsi) {
        let mut request = scsi.target.request(scsi.lun, &[0xFF, 0, 0, 0, 0, 0], Data::None);
        request.srb_flags |= SrbFlags::DISABLE_AUTOSENSE.bits();
        let outcome = scsi.target.submit(&request, 0).await?;
        check(!outcome.is_good() && outcome.sense().is_none(), || format!("{outcome:x?}"))
    }

    /// More memory than the packet's ranges have.
    async fn memory_that_was_not_lent_is_not_used(_, scsi) {
        let cdb = blocks_10(ScsiOp::READ_10, 0, 8);
        let request = scsi.target.request(scsi.lun, &cdb, Data::In(8 * scsi.block_bytes));
        for bytes in [0, scsi.block_bytes] {
            let outcome = scsi.target.submit(&request, bytes).await?;
            check(!outcome.is_good(), || format!("{bytes} bytes were lent: {outcome:x?}"))?;
        }
        Ok(())
    }

    /// A command block longer than there can be.
    async fn a_command_block_of_impossible_length_is_refused(_, scsi) {
        for length in [17, 20, 255] {
            let mut request = scsi.target.request(scsi.lun, &[0; 6], Data::None);
            request.cdb_length = length;
            let outcome = scsi.target.submit(&request, 0).await?;
            let status = outcome.request.srb_status.code();
            check(status != SrbStatus::SUCCESS, || format!("{length} bytes: {outcome:x?}"))?;
        }
        Ok(())
    }
}
