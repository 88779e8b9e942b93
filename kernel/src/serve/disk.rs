//! Reads chunks of the disk into the cache, several at a time.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::pin::Pin;
use core::task::{Context, Poll};

use kernel::files::cache::{CHUNK_BYTES, Cache, Chunk};
use vsc_drivers::storvsc::{Disk, Failed, IoBuffer};

use crate::machine::vmbus::KernelHal;

/// Memory of a chunk: lent to the host while it reads.
pub(super) type Buffer = IoBuffer;

/// What FAT calls a sector.
const BLOCK_BYTES: u64 = 512;

/// Chunks without which nothing can be read: one for the table of clusters, one for what is read, and some on their way.
const LEAST_CHUNKS: usize = 4;

/// Memory for so many chunks, or as many as there is memory for, which is then told; an error if these are too few.
pub(super) fn buffers(chunks: usize) -> Result<Vec<Buffer>, String> {
    let buffers: Vec<_> = (0..chunks).map_while(|_| IoBuffer::zeroed(CHUNK_BYTES)).collect();
    let count = buffers.len();
    if count < LEAST_CHUNKS {
        return Err(format!(
            "there is memory for {count} chunks of the disk, and {LEAST_CHUNKS} are the least; give the machine more memory"
        ));
    }
    if count < chunks {
        log::warn!(
            "memory for {count} chunks of the disk instead of {chunks}: it will be read more often"
        );
    }
    Ok(buffers)
}

/// Length of the disk in blocks of 512 bytes.
pub(super) fn blocks_of_512(disk: &Disk<KernelHal>) -> u64 {
    disk.blocks().saturating_mul(u64::from(disk.block_bytes()) / BLOCK_BYTES)
}

type Read = Pin<Box<dyn Future<Output = Result<IoBuffer, Failed>>>>;

/// What is on its way from the disk.
pub(super) struct ChunkReader<'c> {
    disk: Disk<KernelHal>,
    cache: &'c Cache<Buffer>,
    reads: Vec<(Chunk, Read)>,
    begun: bool,
}

impl<'c> ChunkReader<'c> {
    pub(super) fn new(disk: Disk<KernelHal>, cache: &'c Cache<Buffer>) -> Self {
        Self { disk, cache, reads: Vec::new(), begun: false }
    }

    /// Has the chunk read, unless it is there or on its way.
    pub(super) fn want(&mut self, chunk: Chunk) {
        let Some(buffer) = self.cache.claim(chunk) else { return };
        let read = read(self.disk.clone(), chunk, buffer);
        self.reads.push((chunk, Box::pin(read)));
        self.begun = true;
    }

    /// The chunk that was used last.
    pub(super) fn last(&self) -> Option<Chunk> {
        self.cache.last()
    }

    /// Goes on; whether anything came, or was asked for: the driver is then to be polled.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Self { reads, cache, .. } = self;
        let before = reads.len();
        reads.retain_mut(|(chunk, read)| match read.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(buffer)) => {
                cache.put(*chunk, buffer);
                false
            }
            Poll::Ready(Err(failed)) => {
                log::warn!("chunk {} of the disk: {}", chunk.0, failed.error);
                cache.fail(*chunk, failed.buffers.into_iter().next());
                false
            }
        });
        let begun = core::mem::take(&mut self.begun);
        begun || before != self.reads.len()
    }
}

/// The disk's last chunk may be a short one.
async fn read(
    disk: Disk<KernelHal>,
    chunk: Chunk,
    mut buffer: IoBuffer,
) -> Result<IoBuffer, Failed> {
    let block_bytes = u64::from(disk.block_bytes());
    let lba = chunk.0 * (CHUNK_BYTES as u64 / block_bytes);
    let rest = (disk.blocks().saturating_sub(lba)).saturating_mul(block_bytes);
    if rest >= CHUNK_BYTES as u64 {
        return disk.read_lent(lba, buffer).await;
    }
    let rest = rest as usize;
    match disk.read(lba, &mut buffer[..rest]).await {
        Ok(()) => Ok(buffer),
        Err(error) => Err(Failed { error, buffers: Vec::from([buffer]) }),
    }
}
