//! Integration components: what guests send to the host's, what hosts send to the guest's, and both together.
//!
//! The first byte chooses a component, the second a version and whom to play; the rest are packets, each with its length
//! before it.

#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_abi::ic::IcVersion;
use hypervisor_host::vsp::ic::clock::{ClockSample, Clocks};
use hypervisor_host::vsp::ic::kvp::HostItems;
use hypervisor_host::vsp::ic::session::{Engine, OfferedVersions};
use hypervisor_host::vsp::ic::{self as host, Component};
use libfuzzer_sys::fuzz_target;
use vsc_drivers::ic::{
    self as guest, Clock, KvpTables, Responder, Service, ShutdownHandler, ShutdownRequest,
    TimeSample,
};

/// Bytes of the two headers; within them, of flags and size.
const HEADER: usize = 28;
const FLAGS: usize = 25;

struct Still;

impl Clocks for Still {
    fn sample(&self) -> ClockSample {
        ClockSample { host_time_100ns: 0x01DB_0000_0000_0000, reference_100ns: 77 }
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

impl Clock for Still {
    fn reference_100ns(&self) -> u64 {
        99
    }

    fn sample(&mut self, _sample: TimeSample) {}
}

struct Willing;

impl ShutdownHandler for Willing {
    fn accepts(&mut self, request: &ShutdownRequest) -> bool {
        !request.force
    }

    fn end(&mut self, _request: ShutdownRequest) {}
}

fuzz_target!(|input: &[u8]| {
    let [component, choice, packets @ ..] = input else { return };
    let tables = || KvpTables::new(4).with_intrinsic("OSName", "Enlighten");
    let items = HostItems::new("host", "machine", "id");
    match component % 4 {
        0 => run(host::Heartbeat::default(), guest::Heartbeat::new(), *choice, packets),
        1 => run(host::Shutdown::default(), guest::Shutdown::new(Willing), *choice, packets),
        2 => {
            run(host::Timesync::new(Arc::new(Still)), guest::Timesync::new(Still), *choice, packets)
        }
        _ => run(host::Kvp::new(items), guest::Kvp::new(tables()), *choice, packets),
    }
});

fn run<C: Component, S: Service>(component: C, service: S, choice: u8, packets: &[u8]) {
    let newest = C::VERSIONS[usize::from(choice >> 2) % C::VERSIONS.len()];
    let engine = Engine::new(OfferedVersions::all(C::VERSIONS), component.open(Arc::new(|| {})));
    let responder = Responder::up_to(service, newest);
    match choice % 3 {
        0 => play_guest(engine, newest, packets),
        1 => play_host(responder, newest, S::TYPE.0, packets),
        _ => play_both(engine, responder, packets.len()),
    }
}

/// The packets of the input: a byte that says how they are meant, and their bytes.
fn packets(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [how, low, high, rest @ ..] = input else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        input = rest;
        Some((*how, packet))
    })
}

/// One of each, behind the counts.
fn chosen(version: IcVersion) -> Vec<u8> {
    let numbers = [1, 1, 0, 0, 3, 0, version.major, version.minor];
    numbers.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// The packets are a guest's: as they are, or as the message of an answer that is well-formed.
fn play_guest<S: host::session::Session>(mut engine: Engine<S>, version: IcVersion, input: &[u8]) {
    let mut now = Instant::now();
    let mut request = engine.poll(now).0.expect("the host begins");
    for (how, packet) in packets(input) {
        let mut answer = request.clone();
        answer[FLAGS] = 5;
        let body = if how & 2 != 0 { chosen(version) } else { packet.to_vec() };
        for (to, from) in answer.iter_mut().skip(HEADER).zip(&body) {
            *to = *from;
        }
        let payload = if how & 1 != 0 { &answer } else { packet };
        if engine.receive(now, payload).is_err() {
            return;
        }
        now += Duration::from_secs(u64::from(how >> 2));
        // A component asks a bounded number of questions at a time.
        for _ in 0..16 {
            match engine.poll(now).0 {
                Some(next) => request = next,
                None => break,
            }
        }
        assert_eq!(engine.poll(now).0, None);
    }
}

/// The packets are a host's: as they are, or as the message of a request that is well-formed.
fn play_host<S: Service>(
    mut responder: Responder<S>,
    version: IcVersion,
    message_type: u16,
    input: &[u8],
) {
    for (how, packet) in packets(input) {
        let mut payload = match how & 3 {
            0 => packet.to_vec(),
            1 => request(0, &chosen(version)),
            2 => request(0, packet),
            _ => request(message_type, packet),
        };
        let length = payload.len();
        match responder.respond(&mut payload) {
            Ok(_) => assert_eq!(payload.len(), length),
            Err(_) => return,
        }
        responder.service().answered();
    }
}

fn request(message_type: u16, body: &[u8]) -> Vec<u8> {
    let size = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut payload = vec![1, 0, 0, 0];
    payload.extend((20 + u32::from(size)).to_le_bytes());
    payload.extend([3, 0, 0, 0]);
    payload.extend(message_type.to_le_bytes());
    payload.extend([3, 0, 0, 0]);
    payload.extend(size.to_le_bytes());
    payload.extend([0, 0, 0, 0, 9, 3, 0, 0]);
    payload.extend(&body[..size.into()]);
    payload
}

/// Host and guest are ours: whatever versions they agree on, they understand each other.
fn play_both<H: host::session::Session, G: Service>(
    mut engine: Engine<H>,
    mut responder: Responder<G>,
    rounds: usize,
) {
    let mut now = Instant::now();
    for _ in 0..rounds.min(32) {
        while let Some(mut payload) = engine.poll(now).0 {
            let wanted = responder.respond(&mut payload).expect("the guest understands the host");
            assert!(wanted);
            engine.receive(now, &payload).expect("the host understands the guest");
        }
        now += Duration::from_secs(5);
    }
    assert!(responder.versions().is_some() || rounds == 0);
}
