//! Blocks that are read, written, flushed and verified.

use alloc::format;
use alloc::vec;

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};

use super::cdb::{blocks_6, blocks_10, blocks_12, blocks_16};
use super::target::{Data, ScsiDisk, Target};
use super::{BAD_FIELD, ILLEGAL, LBA, patterned};
use crate::macros::scsi_cases;
use crate::scsi_client::with_disk;
use crate::support::check;
use crate::{CaseResult, Environment};

/// Reads blocks by a command, and compares.
async fn reads<T: Target>(disk: &ScsiDisk<'_, T>, cdb: &[u8], expected: &[u8]) -> CaseResult {
    disk.write(&vec![0xEE; expected.len()])?;
    let got = disk.get(cdb, expected.len() as u32).await?;
    check(got == expected, || format!("{cdb:x?} reads something else"))
}

scsi_cases! {
    /// All four kinds of READ find what WRITE (16) wrote.
    async fn every_read_reads_the_same(scsi) {
        let data = patterned(1, 4 * scsi.block_bytes as usize);
        scsi.put(LBA, &data).await?;
        reads(scsi, &blocks_6(ScsiOp::READ_6, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_10(ScsiOp::READ_10, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_12(ScsiOp::READ_12, LBA as u32, 4), &data).await?;
        reads(scsi, &blocks_16(ScsiOp::READ_16, LBA, 4), &data).await
    }

    /// ... and READ (16) finds what each WRITE wrote.
    async fn every_write_writes_the_same(scsi) {
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
    async fn a_count_of_0_is_256_in_6_bytes(scsi) {
        let bytes = 256 * scsi.block_bytes;
        let moved = scsi.good(&blocks_6(ScsiOp::READ_6, 0, 0), Data::In(bytes)).await?;
        check(moved == bytes, || format!("{moved} bytes"))
    }

    /// ... and nothing in the longer ones, which is no error.
    async fn a_count_of_0_is_nothing_in_longer_commands(scsi) {
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
    async fn reads_and_writes_behind_the_end_are_refused(scsi) {
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
    async fn the_last_block_can_be_written(scsi) {
        let (last, data) = (scsi.blocks - 1, patterned(20, scsi.block_bytes as usize));
        scsi.put(last, &data).await?;
        let got = scsi.take(last, 1).await?;
        check(got == data, || "it reads something else".into())
    }

    /// A write that is refused writes nothing, not even the blocks that there are.
    async fn a_write_across_the_end_writes_nothing(scsi) {
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
    async fn a_transfer_longer_than_its_memory_is_refused(scsi) {
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
    async fn data_in_the_wrong_direction_is_refused(scsi) {
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
    async fn a_transfer_shorter_than_its_memory_leaves_the_rest(scsi) {
        let bytes = scsi.block_bytes;
        scsi.write(&vec![0xEE; 4 * bytes as usize])?;
        let moved = scsi.good(&blocks_10(ScsiOp::READ_10, 0, 1), Data::In(4 * bytes)).await?;
        check(moved == bytes, || format!("{moved} bytes"))?;
        let data = scsi.read(4 * bytes as usize)?;
        check(data[bytes as usize..].iter().all(|byte| *byte == 0xEE), || "more was written".into())
    }

    /// FUA and DPO are taken, and the data is there.
    async fn a_write_through_the_cache_is_taken(scsi) {
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
    async fn protection_information_is_refused(scsi) {
        let bytes = scsi.block_bytes;
        for (op, data) in [(ScsiOp::READ_16, Data::In(bytes)), (ScsiOp::WRITE_16, Data::Out(bytes))] {
            let mut cdb = blocks_16(op, LBA, 1);
            cdb[1] = 0x20;
            scsi.refused(&cdb, data, ILLEGAL, BAD_FIELD).await?;
        }
        Ok(())
    }

    /// All of the disk, and part of it; in both lengths.
    async fn the_cache_can_be_flushed_in_parts(scsi) {
        for (lba, blocks) in [(0, 0), (LBA as u32, 8), (0, 1)] {
            let cdb = blocks_10(ScsiOp::SYNCHRONIZE_CACHE_10, lba, blocks);
            scsi.good(&cdb, Data::None).await?;
            let cdb = blocks_16(ScsiOp::SYNCHRONIZE_CACHE_16, lba.into(), blocks.into());
            scsi.good(&cdb, Data::None).await?;
        }
        Ok(())
    }

    /// Blocks that there are none of can't be flushed.
    async fn a_flush_behind_the_end_is_refused(scsi) {
        let cdb = blocks_16(ScsiOp::SYNCHRONIZE_CACHE_16, scsi.blocks, 1);
        scsi.refused(&cdb, Data::None, ILLEGAL, AdditionalSense::LBA_OUT_OF_RANGE).await
    }

    /// Without data: the blocks can be read.
    async fn verify_without_data_checks_blocks(scsi) {
        scsi.good(&blocks_10(ScsiOp::VERIFY_10, LBA as u32, 8), Data::None).await?;
        scsi.good(&blocks_12(ScsiOp::VERIFY_12, LBA as u32, 8), Data::None).await?;
        scsi.good(&blocks_16(ScsiOp::VERIFY_16, LBA, 8), Data::None).await?;
        let cdb = blocks_16(ScsiOp::VERIFY_16, scsi.blocks, 1);
        scsi.refused(&cdb, Data::None, ILLEGAL, AdditionalSense::LBA_OUT_OF_RANGE).await
    }

    /// With data: it is the same, or MISCOMPARE.
    async fn verify_with_data_compares(scsi) {
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
}
