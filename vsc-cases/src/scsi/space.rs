//! WRITE SAME and UNMAP: many blocks at once, and blocks that are given back.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::sense::AdditionalSense;

use super::cdb::{blocks_10, blocks_16, read_capacity_16};
use super::target::{Data, ScsiDisk, Target};
use super::{BAD_FIELD, ILLEGAL, LBA, is_thin, limits, patterned};
use crate::macros::scsi_cases;
use crate::scsi_client::with_disk;
use crate::support::{check, skip};
use crate::{CaseResult, Environment};

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

scsi_cases! {
    /// One block many times, and its neighbours as they were.
    async fn write_same_repeats_a_block(scsi) {
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
    async fn write_same_of_zeros_writes_zeros(scsi) {
        let block = scsi.block_bytes as usize;
        scsi.put(LBA, &patterned(52, 16 * block)).await?;
        scsi.write(&vec![0; block])?;
        let cdb = blocks_10(ScsiOp::WRITE_SAME_10, LBA as u32, 16);
        scsi.good(&cdb, Data::Out(block as u32)).await?;
        let got = scsi.take(LBA, 16).await?;
        check(got.iter().all(|byte| *byte == 0), || "there is something else".into())
    }

    /// Behind the end, and no blocks at all where the disk says that 0 is not "all".
    async fn write_same_has_its_limits(scsi) {
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
    async fn unmapped_blocks_read_as_zeros(scsi) {
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
    async fn an_unmap_of_nothing_is_good(scsi) {
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
    async fn unmap_has_its_limits(scsi) {
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
    async fn an_unmap_list_cut_short_is_refused(scsi) {
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
    async fn write_same_with_unmap_writes_zeros(scsi) {
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
}
