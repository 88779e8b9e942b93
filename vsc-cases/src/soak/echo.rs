//! Frames of all sizes from one card to another in the same network, which sends them back: each must come once, as it was.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use vsc_drivers::netvsc::{NetVsc, TransmitError, TransmitInfo};
use vsc_drivers::task::{beside, within};
use vsc_drivers::{Hal, SECOND_100NS};

use super::block::{self, Label};
use super::random::Random;

/// An EtherType for experiments (IEEE 802, local experimental 2).
const ETHER_TYPE: [u8; 2] = [0x88, 0xB6];
const HEADER: usize = 14;
/// Bytes of a frame's length, behind the header: a network may make short frames longer.
const LENGTH: usize = 2;
/// The shortest frame, without its checksum (IEEE 802.3).
const MIN_FRAME: usize = 60;
/// Frames under way.
const WINDOW: usize = 64;
/// A frame that has not come back by then is lost.
const PATIENCE_100NS: u64 = 10 * SECOND_100NS;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that came back.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames that did not.
    pub lost: u64,
    /// Frames that came back as something else, or twice.
    pub corrupt: u64,
    /// What was wrong first.
    pub first: Option<String>,
}

impl Tally {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.corrupt) == (0, 0) && self.first.is_none()
    }
}

/// Sends frames from `near` to `far` and back while `goes_on` says so, which is told the number of frames so far. Both
/// drivers' tasks must run beside it.
pub async fn soak<H: Hal>(
    hal: &H,
    (near, far): (&NetVsc<H>, &NetVsc<H>),
    seed: u64,
    goes_on: impl Fn(u64) -> bool,
) -> Tally {
    let echo = Echo { near, far: far.mac(), random: RefCell::new(Random::new(seed)), run: seed };
    let mut tally = Tally::default();
    let done = beside(reflect(far), echo.run(hal, &mut tally, goes_on)).await;
    if let Err(problem) = done {
        tally.first.get_or_insert(problem);
    }
    tally
}

/// Sends back whatever comes.
async fn reflect<H: Hal>(card: &NetVsc<H>) -> Result<(), String> {
    loop {
        let mut frame = match card.receive() {
            Some(frame) => frame,
            None => {
                card.flush();
                card.received().await.map_err(|error| error.to_string())?
            }
        }
        .to_vec();
        if frame.get(12..HEADER) == Some(&ETHER_TYPE) {
            frame.copy_within(6..12, 0);
            frame[6..12].copy_from_slice(&card.mac());
            send(card, &frame).await?;
        }
    }
}

async fn send<H: Hal>(card: &NetVsc<H>, frame: &[u8]) -> Result<(), String> {
    loop {
        match card.transmit(frame, &TransmitInfo::default()) {
            Ok(()) => return Ok(()),
            Err(TransmitError::Full) => {
                card.flush();
                card.room(frame.len()).await.map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

struct Echo<'a, H: Hal> {
    near: &'a NetVsc<H>,
    far: [u8; 6],
    random: RefCell<Random>,
    run: u64,
}

impl<H: Hal> Echo<'_, H> {
    async fn run(
        &self,
        hal: &H,
        tally: &mut Tally,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        // The frames under way, with their lengths.
        let mut missing = BTreeMap::new();
        let mut next = 0;
        loop {
            while missing.len() < WINDOW && goes_on(next) {
                let frame = self.frame(next);
                send(self.near, &frame).await?;
                missing.insert(next, frame.len());
                next += 1;
            }
            self.near.flush();
            if missing.is_empty() {
                return Ok(());
            }
            let come = within(hal, PATIENCE_100NS, self.near.received()).await;
            let Ok(come) = come else {
                tally.lost = missing.len() as u64;
                return Err(format!("frame {:?} did not come back", missing.keys().next()));
            };
            let mut frame = Some(come.map_err(|error| error.to_string())?);
            while let Some(come) = frame {
                self.take(&come, &mut missing, tally);
                frame = self.near.receive();
            }
        }
    }

    /// A frame of any length that says which it is.
    fn frame(&self, number: u64) -> Vec<u8> {
        let longest = self.near.mtu() + HEADER;
        let lengths = longest.saturating_sub(MIN_FRAME) as u64 + 1;
        let length = MIN_FRAME + self.random.borrow_mut().below(lengths) as usize;
        let mut frame = vec![0; length];
        frame[..6].copy_from_slice(&self.far);
        frame[6..12].copy_from_slice(&self.near.mac());
        frame[12..HEADER].copy_from_slice(&ETHER_TYPE);
        let (head, body) = frame.split_at_mut(HEADER + LENGTH);
        head[HEADER..].copy_from_slice(&(length as u16).to_be_bytes());
        Label { run: self.run, number, generation: 0 }.fill(body);
        frame
    }

    fn take(&self, frame: &[u8], missing: &mut BTreeMap<u64, usize>, tally: &mut Tally) {
        if frame.get(12..HEADER) != Some(&ETHER_TYPE) {
            return;
        }
        let known = body(frame).and_then(block::read).filter(|label| label.run == self.run);
        let came = known.and_then(|label| Some((label, missing.remove(&label.number)?)));
        match came {
            Some((label, bytes)) if length(frame) == Some(bytes) && label.generation == 0 => {
                tally.frames += 1;
                tally.bytes += bytes as u64;
            }
            _ => {
                tally.corrupt += 1;
                let what =
                    || format!("{} bytes came that were not sent so: {known:?}", frame.len());
                tally.first.get_or_insert_with(what);
            }
        }
    }
}

fn length(frame: &[u8]) -> Option<usize> {
    let bytes = frame.get(HEADER..)?.first_chunk::<LENGTH>()?;
    Some(usize::from(u16::from_be_bytes(*bytes)))
}

fn body(frame: &[u8]) -> Option<&[u8]> {
    frame.get(HEADER + LENGTH..length(frame)?)
}
