//! Messages past the driver: what no well-behaved guest would say.
//!
//! The answers reach the driver, which counts those that it did not ask for. The host does one thing after the other, so once
//! an ordinary request is answered, all that came before it is.

use alloc::format;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{
    GpadlHeader, GpadlTeardown, MessageHeader, MessageType, VmbusMessage,
};
use hv_abi::vmbus::packet::GpaRangeHeader;
use hv_abi::vmbus::version::VmbusVersion;
use hv_abi::vmbus::{VMBUS_MESSAGE_CONNECTION_ID, VMBUS_MESSAGE_TYPE};
use vsc_drivers::task::{beside, sleep_until};
use vsc_drivers::{BusCounts, Hal, Offer, OpenParams, SECOND_100NS, Vmbus};
use zerocopy::IntoBytes;

use crate::support::{Connected, check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// How often a message is posted again that the host has no room for.
const TRIES: u32 = 1000;

/// Posts bytes on a connection.
///
/// # Errors
///
/// The hypervisor's status.
pub async fn post_on<H: Hal>(hal: &H, connection: u32, bytes: &[u8]) -> Result<(), HvError> {
    for _ in 0..TRIES {
        match hal.post_message(connection, VMBUS_MESSAGE_TYPE, bytes) {
            Err(HvError::INSUFFICIENT_BUFFERS) => {
                sleep_until(hal, hal.now_100ns() + SECOND_100NS / 5000).await;
            }
            other => return other,
        }
    }
    Err(HvError::INSUFFICIENT_BUFFERS)
}

/// Posts bytes to the bus.
///
/// # Errors
///
/// [`Problem::Fail`] if the hypervisor does not take them.
pub async fn post<H: Hal>(hal: &H, bytes: &[u8]) -> CaseResult {
    let posted = post_on(hal, VMBUS_MESSAGE_CONNECTION_ID, bytes).await;
    posted.map_err(|error| Problem::Fail(format!("posting a message: {error:?}")))
}

/// Posts a message to the bus.
///
/// # Errors
///
/// As [`post`].
pub async fn tell<H: Hal, M: VmbusMessage>(hal: &H, message: &M) -> CaseResult {
    post(hal, message.as_bytes()).await
}

/// The first bytes of a message of this type.
pub fn header(message_type: MessageType) -> MessageHeader {
    MessageHeader::new(message_type)
}

/// Posts the header of a GPADL: `ranges` of them, in `bytes` bytes, of which these are the first.
///
/// # Errors
///
/// As [`post`].
pub async fn gpadl<H: Hal>(
    hal: &H,
    channel: u32,
    number: u32,
    (ranges, bytes): (u16, u16),
    list: &[u8],
) -> CaseResult {
    let header = GpadlHeader {
        header: header(GpadlHeader::TYPE),
        child_relid: channel,
        gpadl: number,
        range_buflen: bytes,
        rangecount: ranges,
    };
    post(hal, &[header.as_bytes(), list].concat()).await
}

/// Posts a GPADL of one range.
///
/// # Errors
///
/// As [`post`].
pub async fn gpadl_of<H: Hal>(
    hal: &H,
    channel: u32,
    number: u32,
    range: GpaRangeHeader,
    pages: &[u64],
) -> CaseResult {
    let list = [range.as_bytes(), pages.as_bytes()].concat();
    gpadl(hal, channel, number, (1, list.len() as u16), &list).await
}

/// Posts a teardown.
///
/// # Errors
///
/// As [`post`].
pub async fn teardown<H: Hal>(hal: &H, channel: u32, gpadl: u32) -> CaseResult {
    let header = header(GpadlTeardown::TYPE);
    tell(hal, &GpadlTeardown { header, child_relid: channel, gpadl }).await
}

/// The bus's counts once the host has answered so many raw messages in all, or two seconds later.
async fn answers<H: Hal>(bus: &Vmbus<H>, expected: u64) -> BusCounts {
    let hal = bus.hal();
    let end = hal.now_100ns() + 2 * SECOND_100NS;
    while bus.counts().unexpected_answers < expected && hal.now_100ns() < end {
        sleep_until(hal, hal.now_100ns() + SECOND_100NS / 2000).await;
    }
    bus.counts()
}

/// A connection whose driver is gone past.
pub struct Hostile<'a, E: Environment> {
    /// The connection.
    pub connected: &'a Connected<'a, E>,
    /// Its first channel, which is not open.
    pub offer: Offer,
    /// The kernel.
    pub hal: E::Hal,
    before: u64,
}

impl<E: Environment> Hostile<'_, E> {
    /// The number of the first channel.
    pub fn channel(&self) -> u32 {
        self.offer.channel.relid()
    }

    /// The version of the connection.
    pub fn version(&self) -> VmbusVersion {
        self.connected.version
    }

    /// The bus.
    pub fn bus(&self) -> &Vmbus<E::Hal> {
        self.connected.bus
    }

    /// Checks that the bus goes on working, and that the host has answered so many of the raw messages since the last time. What it
    /// gives back only when nobody uses it any more, it may answer later than what came after.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`], if it has not within two seconds, or answers more often.
    pub async fn answered(&mut self, expected: u64) -> CaseResult {
        let opened = self.bus().open(self.offer.channel, &OpenParams::default()).await;
        let channel = opened.map_err(failed("opening a channel after that"))?;
        channel.close().await.map_err(failed("closing a channel after that"))?;
        let counts = answers(self.bus(), self.before + expected).await;
        let answers = counts.unexpected_answers - self.before;
        self.before = counts.unexpected_answers;
        check(answers == expected, || format!("{answers} answers instead of {expected}"))?;
        let others = [counts.malformed_messages, counts.unknown_messages];
        check(others == [0; 2], || format!("the host said what no guest can use: {counts:?}"))
    }
}

/// Connects, does `act`, and sees that the bus still works for whoever behaves, also by another connection.
///
/// # Errors
///
/// That of `act`, or the bus no longer works.
pub async fn hostile<E: Environment>(
    environment: &E,
    act: impl AsyncFnOnce(&mut Hostile<'_, E>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let Some(offer) = connected.offers.first().cloned() else {
            return skip("the host offers nothing");
        };
        let before = connected.bus.counts().unexpected_answers;
        let hal = environment.hal();
        let mut hostile = Hostile { connected: &connected, offer, hal, before };
        act(&mut hostile).await?;
        hostile.answered(0).await
    })
    .await?;
    connected(environment, async |_| Ok(())).await
}

/// A bus that has not contacted the host, for raw contacts.
pub struct Bare<'a, E: Environment> {
    /// It counts answers.
    pub bus: &'a Vmbus<E::Hal>,
    /// The kernel.
    pub hal: E::Hal,
    /// The version that the host agrees to.
    pub version: VmbusVersion,
}

impl<E: Environment> Bare<'_, E> {
    /// Waits until the host has answered so many messages.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it has not within two seconds, or answers more often.
    pub async fn answered(&self, expected: u64) -> CaseResult {
        let answers = answers(self.bus, expected).await.unexpected_answers;
        check(answers == expected, || format!("{answers} answers instead of {expected}"))
    }
}

/// Does `act` without a connection, and sees that a well-behaved guest can connect afterwards.
///
/// # Errors
///
/// That of `act`, or there is no connection.
pub async fn bare<E: Environment>(
    environment: &E,
    act: impl AsyncFnOnce(&Bare<'_, E>) -> CaseResult,
) -> CaseResult {
    let mut version = VmbusVersion::V0_13;
    let note = &mut version;
    connected(environment, async |connected| {
        *note = connected.version;
        Ok(())
    })
    .await?;
    let bus = environment.new_bus(crate::support::options(environment));
    let bare = Bare { bus: &bus, hal: environment.hal(), version };
    let result = beside(bus.run(), act(&bare)).await;
    result?;
    connected(environment, async |_| Ok(())).await
}
