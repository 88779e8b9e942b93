//! What a disk tells of itself: INQUIRY, vital product data, capacity.

use alloc::format;

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::inquiry::vpd_page;

use super::cdb::{blocks_10, inquiry, read_capacity_16};
use super::target::{Data, ScsiDisk, Target};
use super::{BAD_FIELD, ILLEGAL, is_thin, limits, page};
use crate::macros::scsi_cases;
use crate::scsi_client::with_disk;
use crate::support::check;
use crate::{CaseResult, Environment};

scsi_cases! {
    /// A direct-access device that is there, not removable, with a name in ASCII and a length that is right.
    async fn standard_inquiry_data_is_a_disks(scsi) {
        let data = scsi.get(&inquiry(None, 96), 96).await?;
        check(data.len() >= 36, || format!("{} bytes", data.len()))?;
        check(data[0] == 0, || format!("peripheral {:#x}", data[0]))?;
        check(data[1] & 0x80 == 0, || "a removable disk".into())?;
        check(data[3] & 0xF == 2, || format!("format {}", data[3]))?;
        check(usize::from(data[4]) + 5 == data.len(), || format!("additional length {}", data[4]))?;
        check(data[8..36].iter().all(|byte| (0x20..0x7F).contains(byte)), || "a name".into())
    }

    /// No more than was asked for comes, and that is no error.
    async fn inquiry_data_is_cut_to_the_allocation(scsi) {
        let whole = scsi.get(&inquiry(None, 36), 36).await?;
        for allocation in [0, 1, 5, 35] {
            scsi.write(&[0xEE; 64])?;
            let length = scsi.good(&inquiry(None, allocation), Data::In(64)).await? as usize;
            check(length == usize::from(allocation), || format!("{length} of {allocation}"))?;
            let got = scsi.read(64)?;
            check(got[..length] == whole[..length], || "other bytes".into())?;
            check(got[length..].iter().all(|byte| *byte == 0xEE), || "bytes behind them".into())?;
        }
        Ok(())
    }

    /// A page without EVPD is a mistake.
    async fn inquiry_of_a_page_without_evpd_is_refused(scsi) {
        let cdb = [ScsiOp::INQUIRY.0, 0, vpd_page::UNIT_SERIAL_NUMBER, 0, 96, 0];
        scsi.refused(&cdb, Data::In(96), ILLEGAL, BAD_FIELD).await
    }

    /// In ascending order, beginning with itself.
    async fn the_list_of_pages_is_sorted(scsi) {
        let pages = page(scsi, vpd_page::SUPPORTED_PAGES).await?;
        check(pages.first() == Some(&0) && pages.is_sorted(), || format!("{pages:x?}"))
    }

    /// What is listed is there, with its length right.
    async fn every_page_that_is_listed_is_there(scsi) {
        for number in page(scsi, vpd_page::SUPPORTED_PAGES).await? {
            page(scsi, number).await?;
        }
        Ok(())
    }

    /// What is not listed is refused.
    async fn a_page_that_is_not_listed_is_refused(scsi) {
        let pages = page(scsi, vpd_page::SUPPORTED_PAGES).await?;
        for number in [0x01, 0x7F, 0xB9, 0xFF] {
            if !pages.contains(&number) {
                let cdb = inquiry(Some(number), 255);
                scsi.refused(&cdb, Data::In(255), ILLEGAL, BAD_FIELD).await?;
            }
        }
        Ok(())
    }

    /// ASCII, and the same each time.
    async fn the_serial_number_is_text_and_stays(scsi) {
        let first = page(scsi, vpd_page::UNIT_SERIAL_NUMBER).await?;
        let again = page(scsi, vpd_page::UNIT_SERIAL_NUMBER).await?;
        let text = first.iter().all(|byte| (0x20..0x7F).contains(byte));
        check(!first.is_empty() && text && first == again, || format!("{first:x?}, {again:x?}"))
    }

    /// Each designator's length is right, and at least one names the unit for good.
    async fn designators_name_the_disk(scsi) {
        let page = page(scsi, vpd_page::DEVICE_IDENTIFICATION).await?;
        let (mut rest, mut names) = (&page[..], 0);
        while let [_, kind, _, length, behind @ ..] = rest {
            let Some((name, others)) = behind.split_at_checked(usize::from(*length)) else {
                return check(false, || format!("a designator is cut: {page:x?}"));
            };
            // Of the unit: T10, EUI-64 or NAA.
            names += u32::from(kind & 0x30 == 0 && [1, 2, 3].contains(&(kind & 0xF)) && !name.is_empty());
            rest = others;
        }
        check(rest.is_empty() && names > 0, || format!("{page:x?}"))
    }

    /// What the disk says to be able to move it can move.
    async fn block_limits_are_kept(scsi) {
        let limits = limits(scsi).await?;
        let most = limits.max_transfer.get();
        check(most == 0 || most >= 128, || format!("{most} blocks"))?;
        let optimal = limits.optimal_transfer.get();
        check(most == 0 || optimal <= most, || format!("{optimal} of {most} blocks"))
    }

    /// The page and READ CAPACITY (16) agree.
    async fn provisioning_is_told_the_same_twice(scsi) {
        let thin = is_thin(scsi).await?;
        let pages = page(scsi, vpd_page::SUPPORTED_PAGES).await?;
        if !pages.contains(&vpd_page::LOGICAL_BLOCK_PROVISIONING) {
            return check(!thin, || "a thin disk has no page of it".into());
        }
        let page = page(scsi, vpd_page::LOGICAL_BLOCK_PROVISIONING).await?;
        let commands = page.get(1).is_some_and(|flags| flags & 0xE0 != 0);
        check(thin == commands, || format!("READ CAPACITY: {thin}, page: {page:x?}"))
    }

    /// Both tell the same blocks, as far as the shorter can.
    async fn both_capacities_agree(scsi) {
        let short = scsi.get(&blocks_10(ScsiOp::READ_CAPACITY_10, 0, 0), 8).await?;
        let long = scsi.get(&read_capacity_16(32), 32).await?;
        check(short.len() == 8 && long.len() == 32, || "lengths".into())?;
        let mut last = [0; 8];
        last.copy_from_slice(&long[..8]);
        let last = u64::from_be_bytes(last).min(u64::from(u32::MAX)) as u32;
        check(short[..4] == last.to_be_bytes(), || format!("{short:x?}, {long:x?}"))?;
        check(short[4..] == long[8..12], || format!("{short:x?}, {long:x?}"))
    }

    /// Cut to the allocation, as every answer.
    async fn capacity_is_cut_to_the_allocation(scsi) {
        let whole = scsi.get(&read_capacity_16(32), 32).await?;
        for allocation in [0, 8, 12] {
            let got = scsi.get(&read_capacity_16(allocation), 32).await?;
            check(got == whole[..allocation as usize], || format!("{got:x?}"))?;
        }
        Ok(())
    }

    /// Another service action of the same code.
    async fn an_unknown_service_action_is_refused(scsi) {
        let mut cdb = read_capacity_16(32);
        cdb[1] = 0x1F;
        scsi.refused(&cdb, Data::In(32), ILLEGAL, BAD_FIELD).await
    }
}
