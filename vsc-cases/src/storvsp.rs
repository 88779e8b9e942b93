//! The storage protocol before and beside SCSI: its versions, its order.

use alloc::format;

use hv_abi::storvsp::{Operation, ProtocolVersion, StorvspVersion, VstorStatus};
use zerocopy::IntoBytes;

use crate::macros::cases;
use crate::scsi_client::{Scsi, at_version, with_fresh_channel};
use crate::storage::pattern;
use crate::support::check;
use crate::{CaseResult, Environment};

async fn fresh<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Scsi<E>) -> CaseResult,
) -> CaseResult {
    with_fresh_channel(environment, 4, body).await
}

async fn works_at<E: Environment>(environment: &E, version: StorvspVersion) -> CaseResult {
    at_version(environment, version, async |scsi| {
        let mut data = alloc::vec![0; 2 * scsi.block_bytes as usize];
        pattern(u32::from(version.0), &mut data);
        scsi.put(8, &data).await?;
        check(scsi.take(8, 2).await? == data, || "it reads something else".into())
    })
    .await
}

macro_rules! versions {
    ($($name:ident => $version:ident),*) => { $(
        /// Blocks are written and read at this version of the protocol.
        ///
        /// # Errors
        ///
        /// As every case.
        pub async fn $name<E: Environment>(environment: &E) -> CaseResult {
            works_at(environment, StorvspVersion::$version).await
        }
    )* };
}

versions!(version_2_0_works => V2_0, version_4_2_works => V4_2, version_5_1_works => V5_1,
    version_6_0_works => V6_0, version_6_2_works => V6_2);

cases! { fresh:
    /// Before the beginning nothing else is done, and the beginning still is possible.
    async fn nothing_is_done_before_the_beginning(_, scsi) {
        for operation in [Operation::EXECUTE_SRB, Operation::QUERY_PROPERTIES] {
            let status = scsi.ask(operation, &[]).await?.status;
            check(status != VstorStatus::SUCCESS, || format!("{operation:?} succeeds"))?;
        }
        let begun = scsi.begin(StorvspVersion::V5_1).await?;
        check(begun, || "there is no beginning any more".into())
    }

    /// A version that does not exist is refused, and another can be asked for.
    async fn an_unknown_version_is_refused(_, scsi) {
        scsi.ask(Operation::BEGIN_INITIALIZATION, &[]).await?;
        for number in [0x0603, 0xFF00] {
            let asked = ProtocolVersion { major_minor: StorvspVersion(number), revision: 0 };
            let asked = scsi.ask(Operation::QUERY_PROTOCOL_VERSION, asked.as_bytes()).await?;
            check(asked.status != VstorStatus::SUCCESS, || format!("{number:#x} is agreed to"))?;
        }
        Ok(())
    }

    /// Operations that no guest has are refused.
    async fn unknown_operations_are_refused(_, scsi) {
        for number in [0, 14, 99, u32::MAX] {
            let status = scsi.ask(Operation(number), &[]).await?.status;
            check(status != VstorStatus::SUCCESS, || format!("{number} succeeds"))?;
        }
        Ok(())
    }
}
