//! Services on real channels, against the fake host.

use std::sync::{Arc, Mutex};
use std::vec::Vec;

use vmbus_ring::{Control, OutgoingPacket};

use super::host::{answer, negotiation, request};
use crate::fake::{FakeHal, FakeHost, FakeOffer, HostEnd};
use crate::ic::{
    HEARTBEAT_INTERFACE, Heartbeat, IcError, Responder, SHUTDOWN_INTERFACE, Shutdown,
    ShutdownHandler, ShutdownRequest, driver, serve,
};
use crate::task::{block_on, both};
use crate::{BusOptions, ChannelError, Registry, Vmbus};

/// A connected bus with one heartbeat, played by `device` until the service ends; gives why it ended.
fn served<F: Future>(
    heartbeat: &Heartbeat,
    device: impl FnOnce(FakeHost, HostEnd) -> F,
) -> IcError {
    let host = FakeHost::new();
    let channel = host.offer(FakeOffer::new(HEARTBEAT_INTERFACE));
    let bus = host.bus(BusOptions::default());
    let play = async {
        let end = host.opened(channel).await;
        device(host.clone(), end).await;
    };
    let mut responder = Responder::new(heartbeat.clone());
    block_on(bus.hal(), both(bus.run(), play), async {
        connect(&bus).await;
        serve(&bus, channel, &mut responder).await
    })
}

async fn connect(bus: &Vmbus<FakeHal>) {
    bus.connect().await.unwrap();
    bus.all_offers_delivered().await.unwrap();
}

/// Sends a request, and gives the answer's payload.
async fn ask(end: &HostEnd, number: u64, payload: &[u8]) -> Vec<u8> {
    end.send(&OutgoingPacket::in_band(number, &[payload]));
    let packet = end.receive().await.expect("the guest answers");
    assert_eq!(packet.transaction_id, number);
    packet.payload
}

fn beat(sequence: u64) -> Vec<u8> {
    let mut body = [0; 40];
    body[..8].copy_from_slice(&sequence.to_le_bytes());
    request(1, &body)
}

#[test]
fn a_host_that_asks_is_answered_until_it_takes_the_channel_back() {
    let heartbeat = Heartbeat::new();
    let error = served(&heartbeat, |host, end| async move {
        ask(&end, 1, &negotiation(&[(1, 0), (3, 0)], &[(1, 0), (3, 0)])).await;
        for sequence in 0..1000 {
            let told = answer(&ask(&end, sequence, &beat(sequence)).await, 1);
            assert_eq!(told.body[..8], (sequence + 1).to_le_bytes());
        }
        host.rescind(end.channel());
    });
    assert_eq!(error, IcError::Channel(ChannelError::Rescinded));
    assert_eq!(heartbeat.beats(), 1000);
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let heartbeat = Heartbeat::new();
    served(&heartbeat, |host, end| async move {
        ask(&end, 1, &negotiation(&[(3, 0)], &[(3, 0)])).await;
        for sequence in 0..100 {
            end.send(&OutgoingPacket::in_band(sequence, &[&beat(sequence)]));
        }
        for sequence in 0..100 {
            let packet = end.receive().await.unwrap();
            assert_eq!(packet.transaction_id, sequence);
        }
        host.rescind(end.channel());
    });
    assert_eq!(heartbeat.beats(), 100);
}

#[test]
fn a_host_that_breaks_the_protocol_loses_the_channel() {
    for (payload, wrong) in [
        (beat(0), IcError::NotNegotiated),
        (Vec::from([0; 8]), IcError::PipeType(0)),
        (Vec::new(), IcError::TooShort(0)),
    ] {
        let error = served(&Heartbeat::new(), |_, end| async move {
            end.send(&OutgoingPacket::in_band(1, &[&payload]));
            end.closed().await;
        });
        assert_eq!(error, wrong);
    }
}

#[test]
fn packets_of_other_kinds_end_the_channel() {
    let error = served(&Heartbeat::new(), |_, end| async move {
        end.send(&OutgoingPacket::completion(1, &[&beat(0)]));
        end.closed().await;
    });
    assert_eq!(error, IcError::PacketKind);
}

#[test]
fn a_broken_ring_ends_the_channel() {
    let error = served(&Heartbeat::new(), |_, end| async move {
        end.break_ring(Control::WriteIndex, 0x7FFF_FFF1);
        end.interrupt();
        end.closed().await;
    });
    assert!(matches!(error, IcError::Channel(ChannelError::Corrupt(_))), "{error}");
}

#[test]
fn a_packet_that_is_longer_than_any_message_ends_the_channel() {
    let error = served(&Heartbeat::new(), |_, end| async move {
        end.send(&OutgoingPacket::in_band(1, &[&[0; 14_000]]));
        end.closed().await;
    });
    assert!(matches!(error, IcError::Channel(ChannelError::BufferTooSmall { .. })), "{error}");
}

/// Notes when it is to end.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<ShutdownRequest>>>);

impl ShutdownHandler for Ends {
    fn accepts(&mut self, _request: &ShutdownRequest) -> bool {
        true
    }

    fn end(&mut self, request: ShutdownRequest) {
        self.0.lock().unwrap().push(request);
    }
}

#[test]
fn the_registry_starts_a_driver_and_the_host_has_its_answer_before_the_kernel_ends() {
    let host = FakeHost::new();
    let channel = host.offer(FakeOffer::new(SHUTDOWN_INTERFACE));
    let bus = host.bus(BusOptions::default());
    let ends = Ends::default();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let registry = {
        let (ends, errors) = (ends.clone(), errors.clone());
        let note = move |error| errors.lock().unwrap().push(error);
        Registry::new().with(SHUTDOWN_INTERFACE, driver(move |_| Shutdown::new(ends.clone()), note))
    };
    block_on(bus.hal(), both(bus.run(), registry.run(&bus)), async {
        connect(&bus).await;
        let end = host.opened(channel).await;
        ask(&end, 1, &negotiation(&[(3, 0)], &[(3, 1), (3, 2)])).await;
        let told = answer(&ask(&end, 2, &request(3, &[0; 2060])).await, 3);
        assert_eq!(told.status, 0);
        host.until(|_| !ends.0.lock().unwrap().is_empty()).await;
        host.rescind(channel);
        host.until(|host| !host.has(channel)).await;
    });
    assert_eq!(*errors.lock().unwrap(), [IcError::Channel(ChannelError::Rescinded)]);
}
