//! Frames to and from a network, whatever card is between.

use alloc::string::String;
use alloc::vec;

use kernel::cmdline::{IoBench, IoPath};

use super::Work;
use crate::machine::console;

/// Bytes of a frame: an IPv4 packet of 1,500 bytes in an Ethernet header.
const FRAME: usize = 1514;
/// Bytes of the other frames, header included: the shortest without its check sequence, and a jumbo frame.
const OTHER_FRAMES: [usize; 2] = [60, 9014];
/// Times as many frames of the usual size, in a burst that goes round every ring and buffer often.
const LONG_BURST: u64 = 8;
/// Nobody's address: locally administered.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0xEE];
/// For experiments (IEEE 802, local experimental 1).
const ETHERTYPE: [u8; 2] = [0x88, 0xB5];

/// A network card.
pub(super) trait BenchCard {
    /// The way to it.
    const PATH: IoPath;

    /// Its address.
    fn mac(&self) -> [u8; 6];
    /// Bytes of the longest frame, header included.
    fn longest_frame(&self) -> usize;
    /// Sends a frame so often, as fast as there is room, until the device has taken all.
    async fn send(&self, frame: &[u8], count: u64) -> Result<(), String>;
    /// Takes so many frames of `bytes` bytes; others do not count. Fails if none comes for ten seconds.
    async fn receive(&self, bytes: usize, count: u64) -> Result<(), String>;
}

/// All work that is asked for.
pub(super) async fn work<C: BenchCard>(card: &C, bench: IoBench) -> Result<(), String> {
    let operations = u64::from(bench.operations);
    let (few, many) = (operations, operations * LONG_BURST);
    let [short, jumbo] = OTHER_FRAMES;
    // One place for each kind of work: a copy of all of it for each size would make the image larger.
    let bursts = [(FRAME, few), (short, few), (jumbo, few), (FRAME, many)];
    for (bytes, count) in bursts.into_iter().take(if bench.all { 4 } else { 1 }) {
        if bytes <= card.longest_frame() {
            send(card, bytes, count).await?;
        }
    }
    // So many that those that had come before are few of them.
    for bytes in [short, FRAME, jumbo].into_iter().take(if bench.all { 3 } else { 0 }) {
        if bytes <= card.longest_frame() {
            receive(card, bytes, many).await?;
        }
    }
    Ok(())
}

async fn send<C: BenchCard>(card: &C, bytes: usize, operations: u64) -> Result<(), String> {
    let mut frame = vec![0; bytes];
    frame[..6].copy_from_slice(&NOBODY);
    frame[6..12].copy_from_slice(&card.mac());
    frame[12..14].copy_from_slice(&ETHERTYPE);
    // Once before: whoever has something to set up has done it then.
    card.send(&frame, 64).await?;
    let work = Work { path: C::PATH, name: "send", depth: 0, operations, bytes: bytes as u64 };
    work.marked(card.send(&frame, operations)).await
}

async fn receive<C: BenchCard>(card: &C, bytes: usize, operations: u64) -> Result<(), String> {
    let [a, b, c, d, e, f] = card.mac();
    // Whoever is to send is told where to, and does so until it is told that this has ended.
    console::event("wants-frames", |event| {
        event
            .str("path", C::PATH.name())
            .str("mac", &alloc::format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
            .number("bytes", bytes as u64)
            .end()
    });
    card.receive(bytes, 64).await?;
    let work = Work { path: C::PATH, name: "receive", depth: 0, operations, bytes: bytes as u64 };
    work.marked(card.receive(bytes, operations)).await
}
