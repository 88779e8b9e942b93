//! Reading and writing blocks: one request, or as many as the host's limits and the memory's shape ask for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::storvsp::DataDirection;

use super::buffer::{IoBuffer, Lent};
use super::command::Command;
use super::controller::{Controller, Executed};
use super::error::{DiskError, DiskErrorKind, Failed};
use super::facts::Geometry;
use super::join;
use super::pieces::{Limits, Piece, Position, next_piece};
use super::slots::Address;
use crate::hal::Hal;

/// Requests of one transfer at a time.
const WIDTH: usize = 16;

/// Blocks to be read or written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    pub(super) address: Address,
    pub(super) direction: DataDirection,
    pub(super) lba: u64,
    pub(super) block_bytes: u32,
    /// Writes are to be on the medium.
    pub(super) unit_access: bool,
    /// The channel to take.
    pub(super) wish: usize,
}

/// How a transfer ended.
pub(super) struct Ended {
    pub(super) result: Result<(), DiskError>,
    /// The memory; `None` if the host may still use it.
    pub(super) lent: Option<Lent>,
}

impl Ended {
    pub(super) fn failed(error: DiskError, lent: Lent) -> Self {
        Self { result: Err(error), lent: Some(lent) }
    }

    /// The buffers, or the error with the buffers.
    pub(super) fn into_buffers(self) -> Result<Vec<IoBuffer>, Failed> {
        let buffers = match self.lent {
            Some(Lent::One(buffer)) => Vec::from([buffer]),
            // Others that have a part in it are requests that the host has.
            Some(Lent::Shared(buffers)) => Arc::into_inner(buffers).unwrap_or_default(),
            _ => Vec::new(),
        };
        match self.result {
            Ok(()) => Ok(buffers),
            Err(error) => Err(Failed { error, buffers }),
        }
    }
}

impl Transfer {
    /// Blocks that `bytes` are, if they are whole ones and lie on the disk.
    pub(super) fn check(lba: u64, bytes: u64, geometry: Geometry) -> Result<u64, DiskErrorKind> {
        let block_bytes = u64::from(geometry.block_bytes);
        if !bytes.is_multiple_of(block_bytes) {
            return Err(DiskErrorKind::Misaligned);
        }
        let blocks = bytes / block_bytes;
        match lba.checked_add(blocks) {
            Some(end) if end <= geometry.blocks => Ok(blocks),
            _ => Err(DiskErrorKind::OutOfRange),
        }
    }

    fn command(&self, lba: u64, piece: Piece) -> Command {
        let blocks = piece.bytes / self.block_bytes;
        Command::transfer(self.direction, lba, blocks, self.block_bytes, self.unit_access)
    }
}

impl<H: Hal> Controller<H> {
    /// Moves all of the lent memory.
    pub(super) async fn transfer(&self, transfer: Transfer, lent: Lent) -> Ended {
        let max_bytes = self.max_transfer_bytes;
        let limits = Limits { block_bytes: transfer.block_bytes, max_bytes };
        let start = Position::default();
        let Some((piece, next)) = next_piece(&lent, start, limits) else {
            return Ended { result: Ok(()), lent: Some(lent) };
        };
        if next_piece(&lent, next, limits).is_none() {
            let ended = self.one(&transfer, transfer.lba, lent, piece).await;
            return Ended { result: ended.result.map(|_| ()), lent: ended.lent };
        }
        let shared = match lent {
            Lent::One(buffer) => Arc::new(Vec::from([buffer])),
            Lent::Shared(buffers) => buffers,
            lent => return Ended::failed(DiskErrorKind::Misaligned.into(), lent),
        };
        self.many(&transfer, shared, limits).await
    }

    async fn many(&self, transfer: &Transfer, shared: Arc<Vec<IoBuffer>>, limits: Limits) -> Ended {
        let whole = Lent::Shared(shared.clone());
        let (mut position, mut lba) = (Position::default(), transfer.lba);
        let pieces = core::iter::from_fn(|| {
            let (piece, next) = next_piece(&whole, position, limits)?;
            let at = lba;
            position = next;
            lba = lba.saturating_add(u64::from(piece.bytes / transfer.block_bytes));
            Some((at, piece))
        });
        let requests = pieces.map(|(lba, piece)| {
            let part = Lent::Shared(shared.clone());
            async move { (lba, self.one(transfer, lba, part, piece).await.result) }
        });
        // The error of the first block that failed, whatever order they came in.
        let mut first: Option<(u64, DiskError)> = None;
        join::for_each(requests, WIDTH, |(lba, result)| {
            if let Err(error) = result
                && first.is_none_or(|(known, _)| lba < known)
            {
                first = Some((lba, error));
            }
        })
        .await;
        drop(whole);
        let result = first.map_or(Ok(()), |(_, error)| Err(error));
        Ended { result, lent: Some(Lent::Shared(shared)) }
    }

    async fn one(&self, transfer: &Transfer, lba: u64, lent: Lent, piece: Piece) -> Executed {
        let command = transfer.command(lba, piece);
        let piece = Some(piece);
        let executed = self.execute(transfer.wish, transfer.address, &command, lent, piece).await;
        let result = executed.result.and_then(|bytes| {
            // A disk moves all or says why not.
            let wrong = if bytes > command.data_bytes {
                DiskErrorKind::BadReply
            } else {
                DiskErrorKind::ShortTransfer
            };
            if bytes == command.data_bytes { Ok(bytes) } else { Err(wrong.into()) }
        });
        Executed { result, lent: executed.lent }
    }
}
