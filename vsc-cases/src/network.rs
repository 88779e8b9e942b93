//! Network cards. Most cases need two cards of the same machine in one network: what one sends, the other receives.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::nvsp::NVSP_INTERFACE;
use vsc_drivers::netvsc::{NetOptions, NetVsc, TransmitError, TransmitInfo};
use vsc_drivers::task::{beside, within};
use vsc_drivers::{Hal, SECOND_100NS};

use crate::support::{Connected, check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// An EtherType for experiments (IEEE 802, local experimental 1).
const ETHER_TYPE: [u8; 2] = [0x88, 0xB5];
/// Bytes before a frame's payload.
const HEADER: usize = 14;
const BROADCAST: [u8; 6] = [0xFF; 6];

async fn start<E: Environment>(
    connected: &Connected<'_, E>,
    number: usize,
) -> Result<NetVsc<E::Hal>, Problem> {
    let offers = connected.of_kind(NVSP_INTERFACE, "network card")?;
    let Some(offer) = offers.get(number) else { return skip("the host offers one card only") };
    let started = NetVsc::start(connected.bus, offer.channel, NetOptions::default()).await;
    started.map_err(failed("start a card"))
}

async fn with_card<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&NetVsc<E::Hal>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let card = start(&connected, 0).await?;
        let result = beside(card.run(), body(&card)).await;
        // Also after a failure: the memory is the host's until then.
        let stopped = card.stop().await;
        result.and(stopped.map_err(failed("stop")))
    })
    .await
}

/// Two cards, and the kernel for time limits.
struct Pair<'a, H: Hal> {
    first: &'a NetVsc<H>,
    second: &'a NetVsc<H>,
    hal: H,
}

async fn with_two_cards<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(Pair<'_, E::Hal>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let first = start(&connected, 0).await?;
        let second = beside(first.run(), start(&connected, 1)).await;
        let second = match second {
            Ok(second) => second,
            Err(problem) => {
                beside(first.run(), first.stop()).await.map_err(failed("stop"))?;
                return Err(problem);
            }
        };
        let tasks = vsc_drivers::task::both(first.run(), second.run());
        beside(tasks, async {
            let pair = Pair { first: &first, second: &second, hal: environment.hal() };
            let result = match meet(&pair).await {
                Ok(()) => body(pair).await,
                Err(problem) => Err(problem),
            };
            let (one, other) = (first.stop().await, second.stop().await);
            result
                .and(one.map_err(failed("stop the first card")))
                .and(other.map_err(failed("stop the second card")))
        })
        .await
    })
    .await
}

/// Goes on only if the cards are in the same network; it then knows the way to both.
async fn meet<H: Hal>(pair: &Pair<'_, H>) -> CaseResult {
    for (from, to) in [(pair.first, pair.second), (pair.second, pair.first)] {
        let sent = frame(from.mac(), BROADCAST, 50, 0xFFFF);
        send(from, &sent).await?;
        if receive(&pair.hal, to).await?.is_none() {
            return skip("the two cards are not in the same network");
        }
    }
    Ok(())
}

/// A frame whose payload can be told from its number.
fn frame(from: [u8; 6], to: [u8; 6], payload: usize, number: u16) -> Vec<u8> {
    let mut frame = vec![0; HEADER + payload.max(2)];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&ETHER_TYPE);
    for (at, byte) in frame[HEADER..].iter_mut().enumerate() {
        *byte = (at as u16).wrapping_mul(31).wrapping_add(number.wrapping_mul(7)) as u8;
    }
    frame[HEADER..HEADER + 2].copy_from_slice(&number.to_be_bytes());
    frame
}

async fn send<H: Hal>(card: &NetVsc<H>, frame: &[u8]) -> CaseResult {
    loop {
        match card.transmit(frame, &TransmitInfo::default()) {
            Ok(()) => return Ok(()),
            Err(TransmitError::Full) => {
                card.flush();
                card.room(frame.len()).await.map_err(failed("room"))?;
            }
            Err(error) => return Err(failed("transmit")(error)),
        }
    }
}

/// The next frame of these cases' type; `None` if none comes within a second.
async fn receive<H: Hal>(hal: &H, card: &NetVsc<H>) -> Result<Option<Vec<u8>>, Problem> {
    card.flush();
    let wanted = async {
        loop {
            let frame = card.received().await.map_err(failed("receive"))?;
            if frame.get(12..HEADER) == Some(&ETHER_TYPE) {
                return Ok(frame.to_vec());
            }
        }
    };
    match within(hal, SECOND_100NS, wanted).await {
        Ok(frame) => frame.map(Some),
        Err(_) => Ok(None),
    }
}

async fn pass<H: Hal>(
    hal: &H,
    from: &NetVsc<H>,
    to: &NetVsc<H>,
    frame: &[u8],
    padded: usize,
) -> CaseResult {
    send(from, frame).await?;
    from.flush();
    let Some(got) = receive(hal, to).await? else {
        return check(false, || format!("a frame of {} bytes did not arrive", frame.len()));
    };
    check(got.len() <= padded && got.get(..frame.len()) == Some(frame), || {
        format!("a frame of {} bytes came as one of {}", frame.len(), got.len())
    })
}

/// The protocol's beginning and its end, twice.
///
/// # Errors
///
/// As every case.
pub async fn a_card_starts_stops_and_starts_again<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        for _ in 0..2 {
            let card = start(&connected, 0).await?;
            beside(card.run(), card.stop()).await.map_err(failed("stop"))?;
        }
        Ok(())
    })
    .await
}

/// An address of one card, and an MTU that IPv4 can live with.
///
/// # Errors
///
/// As every case.
pub async fn a_card_tells_its_address_and_its_mtu<E: Environment>(environment: &E) -> CaseResult {
    with_card(environment, async |card| {
        let mac = card.mac();
        check(mac[0] & 1 == 0 && mac != [0; 6], || format!("address {mac:x?}"))?;
        check((576..=65_535).contains(&card.mtu()), || format!("MTU {}", card.mtu()))
    })
    .await
}

/// Each card has an address of its own.
///
/// # Errors
///
/// As every case.
pub async fn two_cards_have_two_addresses<E: Environment>(environment: &E) -> CaseResult {
    with_two_cards(environment, async |pair| {
        let (one, other) = (pair.first.mac(), pair.second.mac());
        check(one != other, || format!("both have {one:x?}"))
    })
    .await
}

/// From the shortest to the longest.
///
/// # Errors
///
/// As every case.
pub async fn frames_of_every_size_arrive_as_they_were_sent<E: Environment>(
    environment: &E,
) -> CaseResult {
    with_two_cards(environment, async |pair| {
        let Pair { first, second, hal } = &pair;
        let most = first.mtu().min(second.mtu());
        let sizes = (46..most).step_by(97).chain([46, 47, most - 1, most]);
        for (number, payload) in sizes.enumerate() {
            let sent = frame(first.mac(), second.mac(), payload, number as u16);
            pass(hal, first, second, &sent, sent.len()).await?;
        }
        Ok(())
    })
    .await
}

/// A network may make short frames longer, but not change them.
///
/// # Errors
///
/// As every case.
pub async fn a_short_frame_arrives_perhaps_longer<E: Environment>(environment: &E) -> CaseResult {
    with_two_cards(environment, async |pair| {
        for payload in [2, 20, 45] {
            let sent = frame(pair.first.mac(), pair.second.mac(), payload, payload as u16);
            pass(&pair.hal, pair.first, pair.second, &sent, 60.max(sent.len())).await?;
        }
        Ok(())
    })
    .await
}

/// To all, and both ways.
///
/// # Errors
///
/// As every case.
pub async fn a_broadcast_reaches_the_other_card<E: Environment>(environment: &E) -> CaseResult {
    with_two_cards(environment, async |pair| {
        for (from, to) in [(pair.first, pair.second), (pair.second, pair.first)] {
            let sent = frame(from.mac(), BROADCAST, 100, 9);
            pass(&pair.hal, from, to, &sent, sent.len()).await?;
        }
        Ok(())
    })
    .await
}

/// Several hundred at once, over one channel or many.
///
/// # Errors
///
/// As every case.
pub async fn a_burst_arrives_whole_and_in_order<E: Environment>(environment: &E) -> CaseResult {
    const FRAMES: u16 = 200;
    with_two_cards(environment, async |pair| {
        let Pair { first, second, hal } = &pair;
        for number in 0..FRAMES {
            send(first, &frame(first.mac(), second.mac(), 700, number)).await?;
        }
        first.flush();
        for number in 0..FRAMES {
            let expected = frame(first.mac(), second.mac(), 700, number);
            match receive(hal, second).await? {
                Some(got) => check(got == expected, || format!("frame {number} is another"))?,
                None => return check(false, || format!("frame {number} of {FRAMES} is missing")),
            }
        }
        Ok(())
    })
    .await
}

/// Frames collected for one signal, so that a burst costs few.
///
/// # Errors
///
/// As every case.
pub async fn a_burst_costs_few_packets<E: Environment>(environment: &E) -> CaseResult {
    const FRAMES: u16 = 64;
    with_two_cards(environment, async |pair| {
        let before = pair.first.statistics();
        for number in 0..FRAMES {
            send(pair.first, &frame(pair.first.mac(), pair.second.mac(), 300, number)).await?;
        }
        for number in 0..FRAMES {
            if receive(&pair.hal, pair.second).await?.is_none() {
                return check(false, || format!("frame {number} is missing"));
            }
        }
        let after = pair.first.statistics();
        let sent = after.transmitted_frames - before.transmitted_frames;
        check(sent == u64::from(FRAMES), || format!("{sent} frames are counted"))
    })
    .await
}

/// A frame for nobody here is nobody's.
///
/// # Errors
///
/// As every case.
pub async fn a_frame_longer_than_the_mtu_is_refused<E: Environment>(environment: &E) -> CaseResult {
    with_card(environment, async |card| {
        let long = frame(card.mac(), BROADCAST, card.mtu() + 5, 0);
        let refused = card.transmit(&long, &TransmitInfo::default()).err();
        check(refused == Some(TransmitError::BadLength), || format!("{refused:?}"))
    })
    .await
}
