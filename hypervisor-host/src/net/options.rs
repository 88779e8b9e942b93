//! `--net`: what one card is plugged into, taken apart and checked before anything is opened.

use std::path::PathBuf;
use std::str::FromStr;

use hv_abi::nvsp::NVSP_MAX_CHANNELS;
use thiserror::Error;

use super::mac::MacAddress;
use super::stream::StreamAddress;

/// MTU of a card that is given none.
pub const DEFAULT_MTU: u16 = 1500;
/// The least MTU: what every IPv4 host must take.
pub const MIN_MTU: u16 = 576;
/// The largest.
pub const MAX_MTU: u16 = 65_000;
/// The longest name of a switch.
const MAX_SWITCH_NAME: usize = 32;

/// A card and what it is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetOptions {
    /// The network.
    pub network: Network,
    /// Its address; [`MacAddress::of_machines_card`] if there is none.
    pub mac: Option<MacAddress>,
    /// Longest frame without its Ethernet header, in bytes.
    pub mtu: u16,
    /// Where its frames are recorded.
    pub pcap: Option<PathBuf>,
    /// What the guest sees of it; synthetic if there is nothing said.
    pub model: Option<CardModel>,
    /// Channels that the guest may have; as many as VPs if there is none.
    pub queues: Option<u16>,
}

/// What kind of card it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardModel {
    /// Hyper-V's synthetic card.
    Netvsc,
    /// DEC's 21140A on PCI.
    Tulip,
}

/// What a card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A TAP device by its name.
    Tap(String),
    /// `passt`, with ports that lead to the guest.
    User(Vec<Forward>),
    /// A stream of frames.
    Stream(StreamAddress),
    /// A switch by its name.
    Switch(String),
}

/// A port of this computer that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// UDP, not TCP.
    pub udp: bool,
    /// The port here.
    pub host: u16,
    /// The guest's.
    pub guest: u16,
}

/// What is wrong with `--net`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetOptionError {
    /// It does not begin with a network.
    #[error(
        "{0:?} is no network; give tap=NAME, user, stream=PATH, stream=HOST:PORT or switch=NAME"
    )]
    Network(String),
    /// A further option that there is not.
    #[error(
        "{0:?} is no option of a network; give mac=, mtu=, pcap=, model= or queues=, and for user also tcp= or udp="
    )]
    Option(String),
    /// An option twice.
    #[error("{0:?} stands twice in a network; give it once")]
    Twice(String),
    /// Not an address.
    #[error(
        "{0:?} is no address of a network card; give one such as 02:15:5d:00:00:01, its first digit pair even"
    )]
    Mac(String),
    /// Not an MTU.
    #[error("{0:?} is no MTU; give a number from {MIN_MTU} to {MAX_MTU}")]
    Mtu(String),
    /// Not a number of queues.
    #[error("{0:?} is no number of queues; give a number from 1 to {NVSP_MAX_CHANNELS}")]
    Queues(String),
    /// Not a model.
    #[error("{0:?} is no model of a network card; give netvsc or tulip")]
    Model(String),
    /// What only synthetic cards can do.
    #[error("a card of model tulip has no {0}; give that with model=netvsc")]
    NotOfTulip(&'static str),
    /// Not a file.
    #[error("pcap= names no file; give one such as pcap=net.pcap")]
    Pcap,
    /// Not a stream.
    #[error("{0:?} is no stream; give the path of a Unix socket, or HOST:PORT")]
    Stream(String),
    /// Not a name.
    #[error(
        "{0:?} is no name of a switch; give 1 to {MAX_SWITCH_NAME} letters, digits, dots, dashes or underscores"
    )]
    Switch(String),
    /// Not a name.
    #[error(
        "{0:?} is no name of a TAP device; give 1 to 15 letters, digits, dots, dashes or underscores"
    )]
    Tap(String),
    /// Not ports.
    #[error("{0:?} is no pair of ports; give HOST:GUEST, such as tcp=8080:80")]
    Forward(String),
}

impl FromStr for NetOptions {
    type Err = NetOptionError;

    fn from_str(text: &str) -> Result<Self, NetOptionError> {
        let mut words = text.split(',');
        let network = network(words.next().unwrap_or_default())?;
        let mut options =
            Self { network, mac: None, mtu: 0, pcap: None, queues: None, model: None };
        for word in words {
            options.add(word)?;
        }
        if options.mtu == 0 {
            options.mtu = DEFAULT_MTU;
        }
        options.check_model()?;
        Ok(options)
    }
}

fn network(word: &str) -> Result<Network, NetOptionError> {
    match word.split_once('=').unwrap_or((word, "")) {
        ("tap", name) if is_name(name, 15) => Ok(Network::Tap(name.into())),
        ("tap", name) => Err(NetOptionError::Tap(name.into())),
        ("user", "") if word == "user" => Ok(Network::User(Vec::new())),
        ("stream", address) => {
            let parsed = address.parse().map_err(|()| NetOptionError::Stream(address.into()));
            parsed.map(Network::Stream)
        }
        ("switch", name) if is_name(name, MAX_SWITCH_NAME) => Ok(Network::Switch(name.into())),
        ("switch", name) => Err(NetOptionError::Switch(name.into())),
        _ => Err(NetOptionError::Network(word.into())),
    }
}

impl NetOptions {
    /// Whether it is an emulated card, on PCI.
    pub fn is_emulated(&self) -> bool {
        self.model == Some(CardModel::Tulip)
    }

    fn check_model(&self) -> Result<(), NetOptionError> {
        match self.model {
            Some(CardModel::Tulip) if self.queues.is_some() => {
                Err(NetOptionError::NotOfTulip("queues="))
            }
            Some(CardModel::Tulip) if self.mtu > DEFAULT_MTU => {
                Err(NetOptionError::NotOfTulip("mtu= above 1500"))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, word: &str) -> Result<(), NetOptionError> {
        let Some((key, value)) = word.split_once('=') else {
            return Err(NetOptionError::Option(word.into()));
        };
        let twice = match key {
            "mac" => self.mac.replace(card_address(value)?).is_some(),
            "mtu" => std::mem::replace(&mut self.mtu, mtu(value)?) != 0,
            "pcap" if value.is_empty() => return Err(NetOptionError::Pcap),
            "pcap" => self.pcap.replace(value.into()).is_some(),
            "queues" => self.queues.replace(queues(value)?).is_some(),
            "model" => self.model.replace(model(value)?).is_some(),
            "tcp" | "udp" => match &mut self.network {
                Network::User(forwards) => {
                    forwards.push(forward(key == "udp", value)?);
                    false
                }
                _ => return Err(NetOptionError::Option(word.into())),
            },
            _ => return Err(NetOptionError::Option(word.into())),
        };
        if twice { Err(NetOptionError::Twice(key.into())) } else { Ok(()) }
    }
}

fn is_name(text: &str, most: usize) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=most).contains(&text.len()) && text.bytes().all(good) && text != "." && text != ".."
}

fn card_address(text: &str) -> Result<MacAddress, NetOptionError> {
    let address = text.parse::<MacAddress>().ok().filter(|address| address.is_a_cards());
    address.ok_or_else(|| NetOptionError::Mac(text.into()))
}

fn mtu(text: &str) -> Result<u16, NetOptionError> {
    let mtu = text.parse().ok().filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu));
    mtu.ok_or_else(|| NetOptionError::Mtu(text.into()))
}

fn queues(text: &str) -> Result<u16, NetOptionError> {
    let queues = text.parse().ok();
    let queues = queues.filter(|&queues| (1..=NVSP_MAX_CHANNELS).contains(&usize::from(queues)));
    queues.ok_or_else(|| NetOptionError::Queues(text.into()))
}

fn model(text: &str) -> Result<CardModel, NetOptionError> {
    match text {
        "netvsc" => Ok(CardModel::Netvsc),
        "tulip" => Ok(CardModel::Tulip),
        _ => Err(NetOptionError::Model(text.into())),
    }
}

fn forward(udp: bool, text: &str) -> Result<Forward, NetOptionError> {
    let parse = || {
        let (host, guest) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0);
        Some(Forward { udp, host: port(host)?, guest: port(guest)? })
    };
    parse().ok_or_else(|| NetOptionError::Forward(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<NetOptions, NetOptionError> {
        text.parse()
    }

    #[test]
    fn every_network_can_be_named() {
        assert_eq!(parse("tap=tap0").unwrap().network, Network::Tap("tap0".into()));
        assert_eq!(parse("switch=lan-1").unwrap().network, Network::Switch("lan-1".into()));
        let stream = StreamAddress::Unix("/run/x.sock".into());
        assert_eq!(parse("stream=/run/x.sock").unwrap().network, Network::Stream(stream));
        let user = parse("user,tcp=8080:80,udp=53,tcp=22:2").unwrap().network;
        let forward = |udp, host, guest| Forward { udp, host, guest };
        let forwards = vec![forward(false, 8080, 80), forward(true, 53, 53), forward(false, 22, 2)];
        assert_eq!(user, Network::User(forwards));
    }

    #[test]
    fn further_options_come_in_any_order() {
        let options = parse("user,queues=4,mac=02:15:5d:00:00:09,pcap=a b.pcap,mtu=9000").unwrap();
        assert_eq!(options.mac, Some(MacAddress([2, 0x15, 0x5D, 0, 0, 9])));
        assert_eq!((options.mtu, options.queues), (9000, Some(4)));
        assert_eq!(options.pcap, Some("a b.pcap".into()));
        let plain = parse("user").unwrap();
        assert_eq!((plain.mtu, plain.queues, plain.mac), (DEFAULT_MTU, None, None));
        assert!(
            !plain.is_emulated() && !parse("user,model=netvsc,queues=2").unwrap().is_emulated()
        );
        assert!(parse("user,model=tulip,mtu=1400").unwrap().is_emulated());
    }

    #[test]
    fn every_mistake_is_told_with_a_way_out() {
        for (text, part) in [
            ("", "no network"),
            ("bridge=br0", "no network"),
            ("user=x", "no network"),
            ("user=", "no network"),
            ("tap=", "no name of a TAP"),
            ("tap=0123456789abcdef", "no name of a TAP"),
            ("switch=", "no name of a switch"),
            ("switch=a/b", "no name of a switch"),
            ("switch=..", "no name of a switch"),
            ("stream=", "no stream"),
            ("stream=host:0", "no stream"),
            ("user,", "no option"),
            ("user,frobnicate", "no option"),
            ("user,frobnicate=1", "no option"),
            ("tap=t,tcp=80:80", "no option"),
            ("user,tcp=0:80", "pair of ports"),
            ("user,tcp=a", "pair of ports"),
            ("user,mac=01:00:00:00:00:00", "no address"),
            ("user,mac=00:00:00:00:00:00", "no address"),
            ("user,mac=x", "no address"),
            ("user,mtu=575", "no MTU"),
            ("user,mtu=65001", "no MTU"),
            ("user,mtu=", "no MTU"),
            ("user,queues=0", "number of queues"),
            ("user,queues=65", "number of queues"),
            ("user,model=e1000", "no model"),
            ("user,model=", "no model"),
            ("user,model=tulip,model=tulip", "twice"),
            ("user,model=tulip,queues=2", "no queues="),
            ("user,mtu=9000,model=tulip", "no mtu="),
            ("user,pcap=", "no file"),
            ("user,mtu=1500,mtu=1500", "twice"),
            ("user,pcap=a,pcap=b", "twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("; give"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, words in "(tap|user|switch|mac|mtu|=|,|:|[0-9]){0,12}") {
            let _ = parse(&text);
            let _ = parse(&words);
        }
    }
}
