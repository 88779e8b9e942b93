//! Network cards by raw sockets: what one sends, the other receives.

use std::collections::BTreeSet;
use std::time::Duration;

use hv_abi::nvsp::NVSP_INTERFACE;
use vsc_cases::support::{check, skip};
use vsc_cases::{CaseResult, Problem};

use super::system::{Device, command, of_kind, soon, text};
use crate::probe::bench::frames::Interface;

/// Bytes before a frame's payload.
const HEADER: usize = 14;
/// Of a frame without its check sequence (IEEE 802.3).
const LEAST_FRAME: usize = 60;
const BROADCAST: [u8; 6] = [0xFF; 6];
/// Time for a frame.
const PATIENCE: Duration = Duration::from_secs(2);

/// The interfaces of all cards, up, in the order of the cards.
fn up() -> Result<Vec<String>, Problem> {
    let cards = of_kind(NVSP_INTERFACE, "network card")?;
    let interface = |card: &Device| card.list("net").into_iter().next();
    if !soon(|| cards.iter().all(|card| interface(card).is_some())) {
        return Err(Problem::Fail("a card has no interface".into()));
    }
    let names: Vec<String> = cards.iter().filter_map(interface).collect();
    for name in &names {
        // Frames that Linux sends by itself would be counted.
        let _no_ipv6 = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        command(&["ip", "link", "set", name, "up"])?;
    }
    let carriers = || names.iter().all(|name| shown(name, "carrier") == "1");
    check(soon(carriers), || "a card has no link".into())?;
    Ok(names)
}

fn shown(interface: &str, file: &str) -> String {
    text(format!("/sys/class/net/{interface}/{file}"))
}

fn number(interface: &str, file: &str) -> Result<usize, Problem> {
    let text = shown(interface, file);
    text.parse().map_err(|_| Problem::Fail(format!("{interface} says {file} {text:?}")))
}

/// Two cards in one network.
struct Pair {
    first: Interface,
    second: Interface,
    names: [String; 2],
}

fn pair() -> Result<Pair, Problem> {
    let mut names = up()?.into_iter();
    let (Some(one), Some(other)) = (names.next(), names.next()) else {
        return skip("the host offers one card only");
    };
    let open = |name: &str| {
        Interface::open(name).map_err(|error| Problem::Fail(format!("{name}: {error:#}")))
    };
    let pair = Pair { first: open(&one)?, second: open(&other)?, names: [one, other] };
    for (from, to) in [(&pair.first, &pair.second), (&pair.second, &pair.first)] {
        send(from, &frame(from.mac(), BROADCAST, 50, 0xFFFF))?;
        if receive(to)?.is_none() {
            return skip("the two cards are not in the same network");
        }
    }
    Ok(pair)
}

/// A frame whose payload can be told from its number.
fn frame(from: [u8; 6], to: [u8; 6], payload: usize, number: u16) -> Vec<u8> {
    let mut frame = [&to[..], &from, &Interface::ETHER_TYPE].concat();
    frame.resize(HEADER + payload.max(2), 0);
    for (at, byte) in frame[HEADER..].iter_mut().enumerate() {
        *byte = (at as u16).wrapping_mul(31).wrapping_add(number.wrapping_mul(7)) as u8;
    }
    frame[HEADER..HEADER + 2].copy_from_slice(&number.to_be_bytes());
    frame
}

fn send(card: &Interface, frame: &[u8]) -> CaseResult {
    card.send_one(frame).map_err(super::failed(format!("send {} bytes", frame.len())))
}

fn receive(card: &Interface) -> Result<Option<Vec<u8>>, Problem> {
    card.receive_one(PATIENCE).map_err(super::failed("receive"))
}

fn pass(from: &Interface, to: &Interface, sent: &[u8], most: usize) -> CaseResult {
    send(from, sent)?;
    let Some(got) = receive(to)? else {
        return check(false, || format!("a frame of {} bytes did not arrive", sent.len()));
    };
    check(got.len() <= most && got.get(..sent.len()) == Some(sent), || {
        format!("a frame of {} bytes came as one of {}", sent.len(), got.len())
    })
}

/// `network::a_card_starts_stops_and_starts_again`.
///
/// # Errors
///
/// As every case.
pub fn a_card_starts_stops_and_starts_again() -> CaseResult {
    let cards = of_kind(NVSP_INTERFACE, "network card")?;
    for _ in 0..2 {
        cards[0].rebind(|| Ok(()))?;
    }
    up().map(drop)
}

/// `network::a_card_tells_its_address_and_its_mtu`.
///
/// # Errors
///
/// As every case.
pub fn a_card_tells_its_address_and_its_mtu() -> CaseResult {
    for name in up()? {
        let card = Interface::open(&name).map_err(|error| Problem::Fail(format!("{error:#}")))?;
        let (mac, mtu) = (card.mac(), number(&name, "mtu")?);
        check(mac[0] & 1 == 0 && mac != [0; 6], || format!("address {mac:x?}"))?;
        check((576..=65_535).contains(&mtu), || format!("MTU {mtu}"))?;
    }
    Ok(())
}

/// `network::two_cards_have_two_addresses`.
///
/// # Errors
///
/// As every case.
pub fn two_cards_have_two_addresses() -> CaseResult {
    let names = up()?;
    if names.len() < 2 {
        return skip("the host offers one card only");
    }
    let addresses: BTreeSet<_> = names.iter().map(|name| shown(name, "address")).collect();
    check(addresses.len() == names.len(), || format!("{} cards have {addresses:?}", names.len()))
}

/// `network::frames_of_every_size_arrive_as_they_were_sent`.
///
/// # Errors
///
/// As every case.
pub fn frames_of_every_size_arrive_as_they_were_sent() -> CaseResult {
    let Pair { first, second, names } = pair()?;
    let most = number(&names[0], "mtu")?.min(number(&names[1], "mtu")?);
    let sizes = (46..most).step_by(97).chain([46, 47, most - 1, most]);
    for (number, payload) in sizes.enumerate() {
        let sent = frame(first.mac(), second.mac(), payload, number as u16);
        pass(&first, &second, &sent, sent.len())?;
    }
    Ok(())
}

/// `network::a_short_frame_arrives_perhaps_longer`.
///
/// # Errors
///
/// As every case.
pub fn a_short_frame_arrives_perhaps_longer() -> CaseResult {
    let Pair { first, second, .. } = pair()?;
    for payload in [2, 20, 45] {
        let sent = frame(first.mac(), second.mac(), payload, payload as u16);
        pass(&first, &second, &sent, LEAST_FRAME.max(sent.len()))?;
    }
    Ok(())
}

/// `network::a_broadcast_reaches_the_other_card`.
///
/// # Errors
///
/// As every case.
pub fn a_broadcast_reaches_the_other_card() -> CaseResult {
    let Pair { first, second, .. } = pair()?;
    for (from, to) in [(&first, &second), (&second, &first)] {
        let sent = frame(from.mac(), BROADCAST, 100, 9);
        pass(from, to, &sent, sent.len())?;
    }
    Ok(())
}

/// `network::a_burst_arrives_whole_and_in_order`.
///
/// # Errors
///
/// As every case.
pub fn a_burst_arrives_whole_and_in_order() -> CaseResult {
    const FRAMES: u16 = 200;
    let Pair { first, second, .. } = pair()?;
    let sent = |number| frame(first.mac(), second.mac(), 700, number);
    (0..FRAMES).try_for_each(|number| send(&first, &sent(number)))?;
    for number in 0..FRAMES {
        match receive(&second)? {
            Some(got) => check(got == sent(number), || format!("frame {number} is another"))?,
            None => return check(false, || format!("frame {number} of {FRAMES} is missing")),
        }
    }
    Ok(())
}

/// `network::a_burst_costs_few_packets`: each frame is counted once.
///
/// # Errors
///
/// As every case.
pub fn a_burst_costs_few_packets() -> CaseResult {
    const FRAMES: u16 = 64;
    let Pair { first, second, names } = pair()?;
    let counted = || number(&names[0], "statistics/tx_packets");
    let before = counted()?;
    for number in 0..FRAMES {
        send(&first, &frame(first.mac(), second.mac(), 300, number))?;
    }
    for number in 0..FRAMES {
        if receive(&second)?.is_none() {
            return check(false, || format!("frame {number} is missing"));
        }
    }
    let sent = counted()? - before;
    check(sent == usize::from(FRAMES), || format!("{sent} frames are counted"))
}

/// `network::a_frame_longer_than_the_mtu_is_refused`.
///
/// # Errors
///
/// As every case.
pub fn a_frame_longer_than_the_mtu_is_refused() -> CaseResult {
    let names = up()?;
    let card = Interface::open(&names[0]).map_err(|error| Problem::Fail(format!("{error:#}")))?;
    let long = frame(card.mac(), BROADCAST, number(&names[0], "mtu")? + 5, 0);
    let refused = card.send_one(&long).err().and_then(|error| error.raw_os_error());
    check(refused == Some(libc::EMSGSIZE), || format!("{refused:?}"))
}
