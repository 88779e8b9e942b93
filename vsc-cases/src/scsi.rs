//! SCSI commands, one rule each, on the scratch disk: what the standards say, whatever the driver makes of it.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::inquiry::{BlockLimits, vpd_page};
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use hv_abi::storvsp::{SrbFlags, SrbStatus};
use zerocopy::FromBytes;

use crate::macros::cases;
use crate::scsi_client::{
    Data, Scsi, blocks_6, blocks_10, blocks_12, blocks_16, inquiry, read_capacity_16, with_disk,
};
use crate::storage::pattern;
use crate::support::{check, skip};
use crate::{CaseResult, Environment, Problem};

/// Where cases write.
const LBA: u64 = 64;
const BAD_COMMAND: AdditionalSense = AdditionalSense::INVALID_COMMAND_OPERATION_CODE;
const BAD_FIELD: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_CDB;
const ILLEGAL: SenseKey = SenseKey::ILLEGAL_REQUEST;

fn patterned(seed: u32, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    pattern(seed, &mut data);
    data
}

/// A page of vital product data without its header.
async fn page<E: Environment>(scsi: &Scsi<E>, page: u8) -> Result<Vec<u8>, Problem> {
    let answer = scsi.get(&inquiry(Some(page), 255), 255).await?;
    check(answer.len() >= 4 && answer[1] == page, || format!("page {page:#x}: {answer:x?}"))?;
    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    check(answer.len() == 4 + length, || format!("page {page:#x} says {length} bytes"))?;
    Ok(answer[4..].to_vec())
}

/// Whether the disk takes blocks back.
async fn is_thin<E: Environment>(scsi: &Scsi<E>) -> Result<bool, Problem> {
    let capacity = scsi.get(&read_capacity_16(32), 32).await?;
    Ok(capacity.get(14).is_some_and(|flags| flags & 0x80 != 0))
}

async fn limits<E: Environment>(scsi: &Scsi<E>) -> Result<BlockLimits, Problem> {
    let bytes = page(scsi, vpd_page::BLOCK_LIMITS).await?;
    BlockLimits::read_from_bytes(&bytes).map_err(|_| Problem::Fail("block limits".into()))
}

fn unmap(length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [ScsiOp::UNMAP.0, 0, 0, 0, 0, 0, 0, high, low, 0]
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let bytes = (ranges.len() * 16) as u16;
    let mut list = [&(bytes + 6).to_be_bytes()[..], &bytes.to_be_bytes(), &[0; 4]].concat();
    for (lba, blocks) in ranges {
        list.extend_from_slice(&[&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
    }
    list
}

/// Reads `blocks` blocks by a command, and compares.
async fn reads<E: Environment>(scsi: &Scsi<E>, cdb: &[u8], expected: &[u8]) -> CaseResult {
    scsi.write(&vec![0xEE; expected.len()])?;
    let got = scsi.get(cdb, expected.len() as u32).await?;
    check(got == expected, || format!("{cdb:x?} reads something else"))
}

cases! { with_disk:
    /// Nothing is wrong with the disk.
    async fn a_disk_is_ready(_, scsi) {
        scsi.good(&[0; 6], Data::None).await.map(drop)
    }

    /// A direct-access device that is there, not removable, with a name in ASCII and a length that is right.
    async fn standard_inquiry_data_is_a_disks(_, scsi) {
        let data = scsi.get(&inquiry(None, 96), 96).await?;
        check(data.len() >= 36, || format!("{} bytes", data.len()))?;
        check(data[0] == 0, || format!("peripheral {:#x}", data[0]))?;
        check(data[1] & 0x80 == 0, || "a removable disk".into())?;
        check(data[3] & 0xF == 2, || format!("format {}", data[3]))?;
        check(usize::from(data[4]) + 5 == data.len(), || format!("additional length {}", data[4]))?;
        check(data[8..36].iter().all(|byte| (0x20..0x7F).contains(byte)), || "a name".into())
    }

    /// No more than was asked for comes, and that is no error.
    async fn inquiry_data_is_cut_to_the_allocation(_, scsi) {
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
    async fn inquiry_of_a_page_without_evpd_is_refused(_, scsi) {
        let cdb = [ScsiOp::INQUIRY.0, 0, vpd_page::UNIT_SERIAL_NUMBER, 0, 96, 0];
        scsi.refused(&cdb, Data::In(96), ILLEGAL, BAD_FIELD).await
    }

    /// In ascending order, beginning with itself.
    async fn the_list_of_pages_is_sorted(_, scsi) {
        let pages = page(scsi, vpd_page::SUPPORTED_PAGES).await?;
        check(pages.first() == Some(&0) && pages.is_sorted(), || format!("{pages:x?}"))
    }

    /// What is listed is there, with its length right.
    async fn every_page_that_is_listed_is_there(_, scsi) {
        for number in page(scsi, vpd_page::SUPPORTED_PAGES).await? {
            page(scsi, number).await?;
        }
        Ok(())
    }

    /// What is not listed is refused.
    async fn a_page_that_is_not_listed_is_refused(_, scsi) {
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
    async fn the_serial_number_is_text_and_stays(_, scsi) {
        let first = page(scsi, vpd_page::UNIT_SERIAL_NUMBER).await?;
        let again = page(scsi, vpd_page::UNIT_SERIAL_NUMBER).await?;
        let text = first.iter().all(|byte| (0x20..0x7F).contains(byte));
        check(!first.is_empty() && text && first == again, || format!("{first:x?}, {again:x?}"))
    }

    /// Each designator's length is right, and at least one names the unit for good.
    async fn designators_name_the_disk(_, scsi) {
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
    async fn block_limits_are_kept(_, scsi) {
        let limits = limits(scsi).await?;
        let most = limits.max_transfer.get();
        check(most == 0 || most >= 128, || format!("{most} blocks"))?;
        let optimal = limits.optimal_transfer.get();
        check(most == 0 || optimal <= most, || format!("{optimal} of {most} blocks"))
    }

    /// The page and READ CAPACITY (16) agree.
    async fn provisioning_is_told_the_same_twice(_, scsi) {
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
    async fn both_capacities_agree(_, scsi) {
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
    async fn capacity_is_cut_to_the_allocation(_, scsi) {
        let whole = scsi.get(&read_capacity_16(32), 32).await?;
        for allocation in [0, 8, 12] {
            let got = scsi.get(&read_capacity_16(allocation), 32).await?;
            check(got == whole[..allocation as usize], || format!("{got:x?}"))?;
        }
        Ok(())
    }

    /// Another service action of the same code.
    async fn an_unknown_service_action_is_refused(_, scsi) {
        let mut cdb = read_capacity_16(32);
        cdb[1] = 0x1F;
        scsi.refused(&cdb, Data::In(32), ILLEGAL, BAD_FIELD).await
    }

    /// Sorted, each once, with this disk among them.
    async fn luns_are_reported_once_and_in_order(_, scsi) {
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
    async fn exactly_the_luns_in_the_list_are_there(_, scsi) {
        let list = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 1024), 1024).await?;
        let luns: Vec<_> = list.get(8..).unwrap_or(&[]).chunks(8).map(|lun| lun[1]).collect();
        for lun in 0..16 {
            let ready = scsi.hear_news(lun).await?;
            check(ready == luns.contains(&lun), || format!("LUN {lun}: {ready}, {luns:?}"))?;
        }
        Ok(())
    }

    /// A list that is cut says how long the whole one is.
    async fn a_short_list_of_luns_says_how_many_there_are(_, scsi) {
        let whole = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 1024), 1024).await?;
        let cut = scsi.get(&blocks_12(ScsiOp::REPORT_LUNS, 0, 16), 16).await?;
        check(cut.len() == 16 && cut[..] == whole[..16], || format!("{cut:x?}"))
    }

    /// What there is no disk for is said so, not executed.
    async fn a_disk_that_is_not_there_does_nothing(_, scsi) {
        for lun in [63, 64, 200, 255] {
            for (cdb, data) in [
                (&[0; 6][..], Data::None),
                (&blocks_10(ScsiOp::READ_10, 0, 1), Data::In(512)),
                (&blocks_10(ScsiOp::WRITE_10, 0, 1), Data::Out(512)),
            ] {
                let outcome = scsi.run_at(lun, cdb, data).await?;
                check(!outcome.is_good(), || format!("LUN {lun} does {cdb:x?}"))?;
            }
        }
        Ok(())
    }

    /// Nor on another bus or target.
    async fn other_addresses_have_no_disks(_, scsi) {
        for (path, target) in [(1, 0), (0, 1), (255, 255)] {
            let mut request = scsi.request(scsi.lun, &[0; 6], Data::None);
            (request.path_id, request.target_id) = (path, target);
            let outcome = scsi.submit(&request, 0).await?;
            check(!outcome.is_good(), || format!("{path}:{target} has a disk"))?;
        }
        Ok(())
    }

    /// No code of these exists for a disk.
    async fn unknown_commands_are_refused(_, scsi) {
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
    async fn sense_data_is_in_fixed_format(_, scsi) {
        let outcome = scsi.run(&[0xFF, 0, 0, 0, 0, 0], Data::None).await?;
        let Some(sense) = outcome.sense() else { return check(false, || format!("{outcome:?}")) };
        check(sense.len() >= 14 && sense[0] & 0x7F == 0x70, || format!("{sense:x?}"))?;
        let length = usize::from(sense[7]) + 8;
        check(length >= 14 && length <= 18.max(sense.len()), || format!("{length} bytes"))
    }

    /// Sense data does not overflow the room for it.
    async fn sense_data_is_cut_to_its_room(_, scsi) {
        for room in [0, 1, 8, 14] {
            let mut request = scsi.request(scsi.lun, &[0xFF, 0, 0, 0, 0, 0], Data::None);
            request.sense_info_length = room;
            let outcome = scsi.submit(&request, 0).await?;
            let length = outcome.sense().map_or(0, <[u8]>::len);
            check(!outcome.is_good() && length <= usize::from(room), || format!("{outcome:x?}"))?;
        }
        Ok(())
    }

    /// Whoever wants no sense data gets none, but the error all the same.
    async fn sense_data_can_be_declined(_, scsi) {
        let mut request = scsi.request(scsi.lun, &[0xFF, 0, 0, 0, 0, 0], Data::None);
        request.srb_flags |= SrbFlags::DISABLE_AUTOSENSE.bits();
        let outcome = scsi.submit(&request, 0).await?;
        check(!outcome.is_good() && outcome.sense().is_none(), || format!("{outcome:x?}"))
    }

    /// There is nothing to tell when there was no error.
    async fn request_sense_has_nothing_to_tell(_, scsi) {
        let sense = scsi.get(&[ScsiOp::REQUEST_SENSE.0, 0, 0, 0, 18, 0], 18).await?;
        check(sense.len() >= 14 && sense[2] & 0xF == 0, || format!("{sense:x?}"))?;
        let sense = scsi.get(&[ScsiOp::REQUEST_SENSE.0, 1, 0, 0, 18, 0], 18).await?;
        check(sense.len() >= 8 && sense[0] == 0x72 && sense[1] & 0xF == 0, || format!("{sense:x?}"))
    }

    /// NACA is for those who have it.
    async fn naca_is_refused(_, scsi) {
        scsi.refused(&[0, 0, 0, 0, 0, 4], Data::None, ILLEGAL, BAD_FIELD).await
    }

    /// A command block shorter than its command.
    async fn a_command_cut_short_is_refused(_, scsi) {
        let cdb = blocks_16(ScsiOp::READ_16, 0, 1);
        for bytes in [1, 6, 15] {
            let outcome = scsi.run(&cdb[..bytes], Data::In(512)).await?;
            check(!outcome.is_good(), || format!("{bytes} bytes are enough"))?;
        }
        scsi.good(&cdb, Data::In(scsi.block_bytes)).await.map(drop)
    }

    /// All four kinds of READ find what WRITE (16) wrote.
    async fn every_read_reads_the_same(_, scsi) {
        let data = patterned(1, 4 * scsi.block_bytes as usize);
        scsi.put(LBA, &data).await?;
        reads(scsi, &blocks_6(ScsiOp::READ_6, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_10(ScsiOp::READ_10, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_12(ScsiOp::READ_12, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_16(ScsiOp::READ_16, LBA, 4), &data).await
    }

    /// ... and READ (16) finds what each WRITE wrote.
    async fn every_write_writes_the_same(_, scsi) {
        let lba = LBA as u32;
        let writes: [&[u8]; 4] = [
            &blocks_6(ScsiOp::WRITE_6, lba, 3),
            &blocks_10(ScsiOp::WRITE_10, lba, 3),
            &blocks_12(ScsiOp::WRITE_12, lba, 3),
            &blocks_16(ScsiOp::WRITE_16, LBA, 3),
        ];
        for (seed, cdb) in writes.into_iter().enumerate() {
            let data = patterned(seed as u32 + 10, 3 * scsi.block_bytes as usize);
            scsi.write(&data)?;
            scsi.good(cdb, Data::Out(data.len() as u32)).await?;
            let got = scsi.take(LBA, 3).await?;
            check(got == data, || format!("{cdb:x?} wrote something else"))?;
        }
        Ok(())
    }

    /// In the 6-byte commands a count of 0 means 256.
    async fn a_count_of_0_is_256_in_6_bytes(_, scsi) {
        let bytes = 256 * scsi.block_bytes;
        let moved = scsi.good(&blocks_6(ScsiOp::READ_6, 0, 0), Data::In(bytes)).await?;
        check(moved == bytes, || format!("{moved} bytes"))
    }

    /// ... and nothing in the longer ones, which is no error.
    async fn a_count_of_0_is_nothing_in_longer_commands(_, scsi) {
        for cdb in [
            &blocks_10(ScsiOp::READ_10, 0, 0)[..],
            &blocks_12(ScsiOp::READ_12, 0, 0),
            &blocks_16(ScsiOp::READ_16, 0, 0),
            &blocks_10(ScsiOp::WRITE_10, 0, 0),
            &blocks_16(ScsiOp::WRITE_16, 0, 0),
        ] {
            let moved = scsi.good(cdb, Data::None).await?;
            check(moved == 0, || format!("{cdb:x?} moved {moved} bytes"))?;
        }
        Ok(())
    }

    /// Behind the last block, by one or by far, and where the sum overflows.
    async fn reads_and_writes_behind_the_end_are_refused(_, scsi) {
        let code = AdditionalSense::LBA_OUT_OF_RANGE;
        let (end, bytes) = (scsi.blocks, scsi.block_bytes);
        for (lba, blocks) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2)] {
            let data = blocks * bytes;
            let cdb = blocks_16(ScsiOp::READ_16, lba, blocks);
            scsi.refused(&cdb, Data::In(data), ILLEGAL, code).await?;
            let cdb = blocks_16(ScsiOp::WRITE_16, lba, blocks);
            scsi.refused(&cdb, Data::Out(data), ILLEGAL, code).await?;
        }
        Ok(())
    }

    /// The last one is there.
    async fn the_last_block_can_be_written(_, scsi) {
        let (last, data) = (scsi.blocks - 1, patterned(20, scsi.block_bytes as usize));
        scsi.put(last, &data).await?;
        let got = scsi.take(last, 1).await?;
        check(got == data, || "it reads something else".into())
    }

    /// A write that is refused writes nothing, not even the blocks that there are.
    async fn a_write_across_the_end_writes_nothing(_, scsi) {
        let (last, bytes) = (scsi.blocks - 1, scsi.block_bytes as usize);
        let data = patterned(21, bytes);
        scsi.put(last, &data).await?;
        scsi.write(&vec![0x77; 2 * bytes])?;
        let cdb = blocks_16(ScsiOp::WRITE_16, last, 2);
        let code = AdditionalSense::LBA_OUT_OF_RANGE;
        scsi.refused(&cdb, Data::Out(2 * bytes as u32), ILLEGAL, code).await?;
        let got = scsi.take(last, 1).await?;
        check(got == data, || "the last block has changed".into())
    }

    /// More blocks than there is memory for: none of them is moved beyond it.
    async fn a_transfer_longer_than_its_memory_is_refused(_, scsi) {
        let bytes = scsi.block_bytes;
        scsi.write(&vec![0xEE; 8 * bytes as usize])?;
        for cdb in [blocks_10(ScsiOp::READ_10, 0, 4), blocks_10(ScsiOp::READ_10, 0, 0xFFFF)] {
            let outcome = scsi.run(&cdb, Data::In(bytes)).await?;
            check(!outcome.is_good(), || format!("{cdb:x?} in {bytes} bytes"))?;
        }
        let data = scsi.read(8 * bytes as usize)?;
        check(data[bytes as usize..].iter().all(|byte| *byte == 0xEE), || {
            "memory was written that was not lent".into()
        })
    }

    /// A read for data from the guest, a write for data to it.
    async fn data_in_the_wrong_direction_is_refused(_, scsi) {
        let bytes = scsi.block_bytes;
        let read = blocks_10(ScsiOp::READ_10, 0, 1);
        let write = blocks_10(ScsiOp::WRITE_10, 0, 1);
        for (cdb, data) in [(read, Data::Out(bytes)), (write, Data::In(bytes))] {
            let outcome = scsi.run(&cdb, data).await?;
            check(!outcome.is_good(), || format!("{cdb:x?} with {data:?}"))?;
        }
        Ok(())
    }

    /// Memory beyond the data stays as it is, and the length that comes back is that of the data.
    async fn a_transfer_shorter_than_its_memory_leaves_the_rest(_, scsi) {
        let bytes = scsi.block_bytes;
        scsi.write(&vec![0xEE; 4 * bytes as usize])?;
        let moved = scsi.good(&blocks_10(ScsiOp::READ_10, 0, 1), Data::In(4 * bytes)).await?;
        check(moved == bytes, || format!("{moved} bytes"))?;
        let data = scsi.read(4 * bytes as usize)?;
        check(data[bytes as usize..].iter().all(|byte| *byte == 0xEE), || "more was written".into())
    }

    /// FUA and DPO are taken, and the data is there.
    async fn a_write_through_the_cache_is_taken(_, scsi) {
        let data = patterned(30, scsi.block_bytes as usize);
        scsi.write(&data)?;
        let mut cdb = blocks_16(ScsiOp::WRITE_16, LBA, 1);
        cdb[1] = 0x18;
        scsi.good(&cdb, Data::Out(data.len() as u32)).await?;
        let mut cdb = blocks_16(ScsiOp::READ_16, LBA, 1);
        cdb[1] = 0x08;
        reads(scsi, &cdb, &data).await
    }

    /// A disk without protection information refuses what asks for it.
    async fn protection_information_is_refused(_, scsi) {
        let bytes = scsi.block_bytes;
        for (op, data) in [(ScsiOp::READ_16, Data::In(bytes)), (ScsiOp::WRITE_16, Data::Out(bytes))] {
            let mut cdb = blocks_16(op, LBA, 1);
            cdb[1] = 0x20;
            scsi.refused(&cdb, data, ILLEGAL, BAD_FIELD).await?;
        }
        Ok(())
    }

    /// All of the disk, and part of it; in both lengths.
    async fn the_cache_can_be_flushed_in_parts(_, scsi) {
        for (lba, blocks) in [(0, 0), (LBA as u32, 8), (0, 1)] {
            let cdb = blocks_10(ScsiOp::SYNCHRONIZE_CACHE_10, lba, blocks);
            scsi.good(&cdb, Data::None).await?;
            let cdb = blocks_16(ScsiOp::SYNCHRONIZE_CACHE_16, lba.into(), blocks.into());
            scsi.good(&cdb, Data::None).await?;
        }
        Ok(())
    }

    /// Blocks that there are none of can't be flushed.
    async fn a_flush_behind_the_end_is_refused(_, scsi) {
        let cdb = blocks_16(ScsiOp::SYNCHRONIZE_CACHE_16, scsi.blocks, 1);
        scsi.refused(&cdb, Data::None, ILLEGAL, AdditionalSense::LBA_OUT_OF_RANGE).await
    }

    /// Without data: the blocks can be read.
    async fn verify_without_data_checks_blocks(_, scsi) {
        scsi.good(&blocks_10(ScsiOp::VERIFY_10, LBA as u32, 8), Data::None).await?;
        scsi.good(&blocks_12(ScsiOp::VERIFY_12, LBA as u32, 8), Data::None).await?;
        scsi.good(&blocks_16(ScsiOp::VERIFY_16, LBA, 8), Data::None).await?;
        let cdb = blocks_16(ScsiOp::VERIFY_16, scsi.blocks, 1);
        scsi.refused(&cdb, Data::None, ILLEGAL, AdditionalSense::LBA_OUT_OF_RANGE).await
    }

    /// With data: it is the same, or MISCOMPARE.
    async fn verify_with_data_compares(_, scsi) {
        let mut data = patterned(40, 2 * scsi.block_bytes as usize);
        scsi.put(LBA, &data).await?;
        let mut cdb = blocks_10(ScsiOp::VERIFY_10, LBA as u32, 2);
        cdb[1] = 0x02;
        let out = Data::Out(data.len() as u32);
        scsi.good(&cdb, out).await?;
        let last = data.len() - 1;
        data[last] ^= 1;
        scsi.write(&data)?;
        let code = AdditionalSense::MISCOMPARE_DURING_VERIFY;
        scsi.refused(&cdb, out, SenseKey::MISCOMPARE, code).await
    }

    /// One block many times, and its neighbours as they were.
    async fn write_same_repeats_a_block(_, scsi) {
        let block = scsi.block_bytes as usize;
        let before = patterned(50, 6 * block);
        scsi.put(LBA, &before).await?;
        let data = patterned(51, block);
        scsi.write(&data)?;
        let cdb = blocks_16(ScsiOp::WRITE_SAME_16, LBA + 1, 4);
        scsi.good(&cdb, Data::Out(block as u32)).await?;
        let got = scsi.take(LBA, 6).await?;
        check(got[..block] == before[..block], || "the block before".into())?;
        check(got[5 * block..] == before[5 * block..], || "the block behind".into())?;
        check(got[block..5 * block].chunks(block).all(|one| one == data), || "the blocks".into())
    }

    /// The shorter command too, with zeros.
    async fn write_same_of_zeros_writes_zeros(_, scsi) {
        let block = scsi.block_bytes as usize;
        scsi.put(LBA, &patterned(52, 16 * block)).await?;
        scsi.write(&vec![0; block])?;
        let cdb = blocks_10(ScsiOp::WRITE_SAME_10, LBA as u32, 16);
        scsi.good(&cdb, Data::Out(block as u32)).await?;
        let got = scsi.take(LBA, 16).await?;
        check(got.iter().all(|byte| *byte == 0), || "there is something else".into())
    }

    /// Behind the end, and no blocks at all where the disk says that 0 is not "all".
    async fn write_same_has_its_limits(_, scsi) {
        let (limits, bytes) = (limits(scsi).await?, scsi.block_bytes);
        scsi.write(&vec![0; bytes as usize])?;
        let cdb = blocks_16(ScsiOp::WRITE_SAME_16, scsi.blocks, 1);
        let code = AdditionalSense::LBA_OUT_OF_RANGE;
        scsi.refused(&cdb, Data::Out(bytes), ILLEGAL, code).await?;
        if limits.wsnz & 1 != 0 {
            let cdb = blocks_16(ScsiOp::WRITE_SAME_16, LBA, 0);
            scsi.refused(&cdb, Data::Out(bytes), ILLEGAL, BAD_FIELD).await?;
        }
        let most = limits.max_write_same.get();
        match u32::try_from(most) {
            Ok(most) if most != 0 && most != u32::MAX => {
                let cdb = blocks_16(ScsiOp::WRITE_SAME_16, 0, most + 1);
                let outcome = scsi.run(&cdb, Data::Out(bytes)).await?;
                check(!outcome.is_good(), || format!("more than {most} blocks"))
            }
            _ => Ok(()),
        }
    }

    /// Blocks that were given back read as zeros where the disk says so; their neighbours stay.
    async fn unmapped_blocks_read_as_zeros(_, scsi) {
        let capacity = scsi.get(&read_capacity_16(32), 32).await?;
        if capacity[14] & 0xC0 != 0xC0 {
            return skip("the disk does not promise zeros");
        }
        let block = scsi.block_bytes as usize;
        let data = patterned(60, 32 * block);
        scsi.put(LBA, &data).await?;
        let list = unmap_list(&[(LBA + 8, 8), (LBA + 24, 4)]);
        scsi.write(&list)?;
        scsi.good(&unmap(list.len() as u16), Data::Out(list.len() as u32)).await?;
        let got = scsi.take(LBA, 32).await?;
        for (number, one) in got.chunks(block).enumerate() {
            let gone = (8..16).contains(&number) || (24..28).contains(&number);
            let expected = if gone { vec![0; block] } else { data[number * block..][..block].to_vec() };
            check(one == expected, || format!("block {number}"))?;
        }
        Ok(())
    }

    /// No list, no ranges, no blocks: nothing to do, and no error.
    async fn an_unmap_of_nothing_is_good(_, scsi) {
        if !is_thin(scsi).await? {
            return skip("the disk takes no blocks back");
        }
        scsi.good(&unmap(0), Data::None).await?;
        for list in [unmap_list(&[]), unmap_list(&[(LBA, 0)])] {
            scsi.write(&list)?;
            scsi.good(&unmap(list.len() as u16), Data::Out(list.len() as u32)).await?;
        }
        Ok(())
    }

    /// Too many ranges, too many blocks, blocks that there are none of; and then nothing is unmapped.
    async fn unmap_has_its_limits(_, scsi) {
        if !is_thin(scsi).await? {
            return skip("the disk takes no blocks back");
        }
        let limits = limits(scsi).await?;
        let data = patterned(61, scsi.block_bytes as usize);
        scsi.put(LBA, &data).await?;
        let ranges = limits.max_unmap_descriptors.get().min(1000);
        let blocks = limits.max_unmap_blocks.get();
        let mut lists = vec![vec![(LBA, 1), (scsi.blocks, 1)], vec![(LBA, 1), (u64::MAX, 2)]];
        lists.push(vec![(LBA, 1); ranges as usize + 1]);
        lists.push(vec![(LBA, 1), (0, blocks.saturating_add(1))]);
        for list in lists {
            let list = unmap_list(&list);
            scsi.write(&list)?;
            let outcome = scsi.run(&unmap(list.len() as u16), Data::Out(list.len() as u32)).await?;
            let key = outcome.error().map(|(key, _)| key);
            check(key == Some(ILLEGAL), || format!("{} bytes: {key:?}", list.len()))?;
        }
        let got = scsi.take(LBA, 1).await?;
        check(got == data, || "a block was unmapped".into())
    }

    /// A list that is shorter than it says.
    async fn an_unmap_list_cut_short_is_refused(_, scsi) {
        if !is_thin(scsi).await? {
            return skip("the disk takes no blocks back");
        }
        let list = unmap_list(&[(LBA, 1), (LBA + 2, 1)]);
        scsi.write(&list)?;
        for bytes in [1, 7, 8 + 15] {
            let outcome = scsi.run(&unmap(bytes), Data::Out(bytes.into())).await?;
            let key = outcome.error().map(|(key, _)| key);
            check(key == Some(ILLEGAL), || format!("{bytes} bytes: {key:?}"))?;
        }
        Ok(())
    }

    /// WRITE SAME with UNMAP gives zeros where it may.
    async fn write_same_with_unmap_writes_zeros(_, scsi) {
        let capacity = scsi.get(&read_capacity_16(32), 32).await?;
        if capacity[14] & 0xC0 != 0xC0 {
            return skip("the disk does not promise zeros");
        }
        let block = scsi.block_bytes as usize;
        scsi.put(LBA, &patterned(62, 8 * block)).await?;
        scsi.write(&vec![0; block])?;
        let mut cdb = blocks_16(ScsiOp::WRITE_SAME_16, LBA, 8);
        cdb[1] = 0x08;
        scsi.good(&cdb, Data::Out(block as u32)).await?;
        let got = scsi.take(LBA, 8).await?;
        check(got.iter().all(|byte| *byte == 0), || "there is something else".into())
    }

    /// Both lengths tell the same pages, with lengths that are right.
    async fn mode_pages_are_the_same_in_both_lengths(_, scsi) {
        let short = scsi.get(&[ScsiOp::MODE_SENSE_6.0, 8, 0x3F, 0, 255, 0], 255).await?;
        let long = scsi.get(&[ScsiOp::MODE_SENSE_10.0, 8, 0x3F, 0, 0, 0, 0, 0, 255, 0], 255).await?;
        check(short.len() > 4 && long.len() > 8, || "no pages".into())?;
        check(usize::from(short[0]) + 1 == short.len(), || format!("{short:x?}"))?;
        let length = usize::from(u16::from_be_bytes([long[0], long[1]]));
        check(length + 2 == long.len(), || format!("{long:x?}"))?;
        check(short[4..] == long[8..], || format!("{short:x?}, {long:x?}"))
    }

    /// Only those that there are; no subpages.
    async fn a_mode_page_that_is_not_there_is_refused(_, scsi) {
        for (page, subpage) in [(0x2E, 0), (0x08, 0x55)] {
            let cdb = [ScsiOp::MODE_SENSE_6.0, 0, page, subpage, 255, 0];
            scsi.refused(&cdb, Data::In(255), ILLEGAL, BAD_FIELD).await?;
        }
        Ok(())
    }

    /// Nothing is saved.
    async fn saved_mode_pages_are_refused(_, scsi) {
        let cdb = [ScsiOp::MODE_SENSE_6.0, 0, 0xC8, 0, 255, 0];
        let code = AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED;
        scsi.refused(&cdb, Data::In(255), ILLEGAL, code).await
    }

    /// What MODE SENSE told can be set again; anything else can't.
    async fn mode_select_takes_what_is_set_already(_, scsi) {
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

    /// Started, stopped and started, it is ready; it can't be ejected.
    async fn a_disk_starts_and_stops_but_is_not_ejected(_, scsi) {
        for flags in [1, 0, 1] {
            scsi.good(&[ScsiOp::START_STOP_UNIT.0, 0, 0, 0, flags, 0], Data::None).await?;
        }
        scsi.good(&[0; 6], Data::None).await?;
        let cdb = [ScsiOp::START_STOP_UNIT.0, 0, 0, 0, 2, 0];
        scsi.refused(&cdb, Data::None, ILLEGAL, BAD_FIELD).await
    }

    /// What is in the list of commands is known, and what is not is refused.
    async fn the_list_of_commands_is_true(_, scsi) {
        let mut cdb = [0; 12];
        (cdb[0], cdb[1]) = (ScsiOp::MAINTENANCE_IN.0, 0x0C);
        cdb[8] = 0x10;
        let outcome = scsi.run(&cdb, Data::In(4096)).await?;
        if outcome.error() == Some((ILLEGAL, BAD_COMMAND)) {
            return skip("the disk does not list its commands");
        }
        let list = scsi.read(outcome.request.data_transfer_length as usize)?;
        check(outcome.is_good() && list.len() > 4, || format!("{outcome:x?}"))?;
        let known: Vec<u8> = list[4..].chunks(8).map(|descriptor| descriptor[0]).collect();
        for op in 0..=255 {
            let mut cdb = [0; 16];
            // Nothing is moved, written or told: no blocks, no room.
            (cdb[0], cdb[1]) = (op, if op == 0x9E { 0x10 } else { 0 });
            if [0x41, 0x93, 0xA3, 0x08, 0x0A].contains(&op) {
                continue;
            }
            let error = scsi.run(&cdb, Data::None).await?.error();
            let unknown = error == Some((ILLEGAL, BAD_COMMAND));
            check(unknown != known.contains(&op), || format!("{op:#x}: {error:x?}"))?;
        }
        Ok(())
    }

    /// More memory than the packet's ranges have.
    async fn memory_that_was_not_lent_is_not_used(_, scsi) {
        let cdb = blocks_10(ScsiOp::READ_10, 0, 8);
        let request = scsi.request(scsi.lun, &cdb, Data::In(8 * scsi.block_bytes));
        for bytes in [0, scsi.block_bytes] {
            let outcome = scsi.submit(&request, bytes).await?;
            check(!outcome.is_good(), || format!("{bytes} bytes were lent: {outcome:x?}"))?;
        }
        Ok(())
    }

    /// A command block longer than there can be.
    async fn a_command_block_of_impossible_length_is_refused(_, scsi) {
        for length in [17, 20, 255] {
            let mut request = scsi.request(scsi.lun, &[0; 6], Data::None);
            request.cdb_length = length;
            let outcome = scsi.submit(&request, 0).await?;
            let status = outcome.request.srb_status.code();
            check(status != SrbStatus::SUCCESS, || format!("{length} bytes: {outcome:x?}"))?;
        }
        Ok(())
    }
}
