//! Contact, versions, targets, and how connections end.

use std::sync::atomic::Ordering;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{
    ContactTarget, MessageHeader, MessageType, VersionResponse, VersionResponse2,
};
use hv_abi::vmbus::version::{VmbusVersion, feature};
use vmbus_ring::OutgoingPacket;
use zerocopy::{FromBytes, IntoBytes};

use super::echo::Echo;
use super::versions;
use crate::hyperv::synic::Sint;
use crate::vmbus::testing::{TestGuest, VPS, wait_for};
use crate::vmbus::{ServerOptions, VmbusServer};

fn guest_with(newest: VmbusVersion) -> TestGuest {
    TestGuest::with(ServerOptions { newest, ..ServerOptions::new(VPS) })
}

#[test]
fn every_version_is_negotiated_and_carries_packets() {
    for version in versions() {
        let guest = TestGuest::new();
        guest.server.add(Echo::new(1)).unwrap();
        let offers = guest.connect(version);
        let mut channel = guest.open(&offers[0], 2);
        channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
        assert_eq!(channel.receive(&guest).payload, b"12345678", "{version}");
        channel.close(&guest);
        assert_eq!(guest.server.report().version, Some(version.to_string()));
        assert!(guest.server.report().errors.is_empty(), "{version}");
    }
}

#[test]
fn a_host_of_each_version_refuses_newer_ones() {
    for newest in versions() {
        let guest = guest_with(newest);
        for version in VmbusVersion::ALL {
            if version >= VmbusVersion::V5_0 && newest < VmbusVersion::V5_0 {
                // Old hosts have no such connection, by which Linux knows them.
                let request = guest.contact_request(version);
                let answer = guest.try_post(4, request.as_bytes());
                assert_eq!(answer, Err(HvError::INVALID_CONNECTION_ID));
                continue;
            }
            let response = guest.contact(version);
            assert_eq!(response.version_supported == 1, version <= newest, "{version} of {newest}");
            assert_eq!(response.connection_state, 0);
        }
    }
}

#[test]
fn versions_that_nobody_knows_are_refused() {
    let guest = TestGuest::new();
    for version in [0, 1, 0x0005_0004, 0x0003_0001, 0x000D, 0x0007_0000, u32::MAX] {
        let mut request = guest.contact_request(VmbusVersion::V5_3);
        request.vmbus_version_requested = VmbusVersion(version);
        // By this connection the source is SINT 2 for all versions.
        guest.post(&request);
        assert_eq!(guest.take::<VersionResponse>().version_supported, 0, "{version:#x}");
    }
}

#[test]
fn answers_go_to_the_processor_and_source_that_the_version_says() {
    for version in versions() {
        let mut guest = TestGuest::new();
        let mut request = guest.contact_request(version);
        request.target_vcpu = 1;
        let names_source = version >= VmbusVersion::V5_0;
        if names_source {
            request.target = 5;
        }
        guest.target = Sint {
            vp: (version >= VmbusVersion::V3_0).into(),
            number: if names_source { 5 } else { 2 },
        };
        guest.post_by(if names_source { 4 } else { 1 }, request.as_bytes());
        assert_eq!(guest.take_bytes()[8], 1, "{version}");
        guest.request_offers();
        assert_eq!(guest.routes(), 1);
    }
}

#[test]
fn targets_that_there_are_not_get_no_answer() {
    let guest = TestGuest::new();
    for (vp, source) in [(VPS, 2), (u32::MAX, 2), (0, 16), (0, 255)] {
        let mut request = guest.contact_request(VmbusVersion::V5_3);
        (request.target_vcpu, request.target) = (vp, source);
        guest.post_by(4, request.as_bytes());
    }
    guest.expect_errors("target", 4);
    assert_eq!(guest.routes(), 0);
    guest.connect(VmbusVersion::V5_3);
}

#[test]
fn other_trust_levels_are_refused() {
    let guest = TestGuest::new();
    let mut request = guest.contact_request(VmbusVersion::V5_3);
    request.target = 2 | 2 << 8;
    guest.post_by(4, request.as_bytes());
    assert_eq!(guest.take::<VersionResponse>().version_supported, 0);
}

#[test]
fn only_features_that_the_host_has_are_granted() {
    let guest = TestGuest::new();
    let contact = |features: u32, client: bool| {
        let mut request = guest.contact_request(VmbusVersion::V6_0);
        request.target = ContactTarget::new(2, features).0;
        let behind: &[u8] = if client { &[7; 16] } else { &[] };
        guest.post_by(4, &[request.as_bytes(), behind].concat());
        VersionResponse2::read_from_bytes(&guest.take_bytes()).ok()
    };
    assert_eq!(contact(0, false).unwrap().supported_features, 0);
    assert_eq!(contact(0, true).unwrap().supported_features, 0);
    assert_eq!(contact(u32::MAX, true).unwrap().supported_features, 0b1001);
    let lies = feature::CLIENT_ID;
    assert!(contact(lies, false).is_none(), "a short answer that tells of a failure");
    assert_eq!(guest.errors("client"), 1);
}

#[test]
fn one_monitor_page_or_none_in_ram_is_a_failure() {
    for (version, supported) in
        [(VmbusVersion::V5_3, 1), (VmbusVersion::V2_4, 1), (VmbusVersion::V1_1, 0)]
    {
        let guest = TestGuest::new();
        for pages in [(0x3000, 0), (0, 0x4000), (0x3000, 0x4008), (0x3000, 1 << 40), (1, !0xFFF)] {
            let mut request = guest.contact_request(version);
            (request.monitor_page1, request.monitor_page2) = pages;
            guest.post(&request);
            let response: VersionResponse = guest.take();
            assert_eq!(response.version_supported, supported, "{version} {pages:?}");
            assert_eq!(response.connection_state, if supported == 1 { 2 } else { 0 });
        }
        assert_eq!(guest.errors("monitor-pages"), 5);
        guest.post_header(MessageType::REQUESTOFFERS);
        guest.expect_errors("not-connected", 1);
    }
}

#[test]
fn old_guests_need_an_interrupt_page() {
    let guest = TestGuest::new();
    for version in [VmbusVersion::V0_13, VmbusVersion::V1_1] {
        for page in [0x2004, 1 << 40, u64::MAX] {
            let mut request = guest.contact_request(version);
            request.target = page;
            guest.post(&request);
            assert_eq!(guest.take::<VersionResponse>().version_supported, 0);
        }
    }
    assert_eq!(guest.errors("interrupt-page"), 6);
}

#[test]
fn nothing_is_answered_without_a_connection() {
    let guest = TestGuest::new();
    for message_type in [3, 5, 7, 8, 9, 11, 16, 21, 22] {
        let mut bytes = MessageHeader::new(MessageType(message_type)).as_bytes().to_vec();
        bytes.resize(240, 0);
        guest.post_bytes(&bytes);
    }
    guest.expect_errors("not-connected", 9);
    assert_eq!(guest.routes(), 0);
}

#[test]
fn an_unload_is_answered_and_takes_the_routes_away() {
    for version in versions() {
        let guest = TestGuest::new();
        guest.server.add(Echo::new(1)).unwrap();
        let offers = guest.connect(version);
        let _channel = guest.open(&offers[0], 2);
        guest.post_header(MessageType::UNLOAD);
        // The first version has no answer.
        if version >= VmbusVersion::V1_1 {
            guest.take_header(MessageType::UNLOAD_RESPONSE);
        }
        wait_for("the end of routes", || (guest.routes() == 0).then_some(()));
        guest.post_header(MessageType::UNLOAD);
        guest.expect_errors("not-connected", 1);
    }
}

#[test]
fn numbers_released_after_an_unload_are_no_error() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    guest.connect(VmbusVersion::V5_3);
    guest.post_header(MessageType::UNLOAD);
    guest.take_header(MessageType::UNLOAD_RESPONSE);
    guest.post_bytes([13, 0, 1_u32].as_bytes());
    guest.connect(VmbusVersion::V5_3);
    assert!(guest.server.report().errors.is_empty());
}

#[test]
fn an_unload_waits_for_providers() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 2);
    channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
    channel.receive(&guest);
    let hold = echo.hold.lock().unwrap();
    guest.post_header(MessageType::UNLOAD);
    guest.expect_silence();
    assert_eq!(echo.serving.load(Ordering::SeqCst), 1);
    drop(hold);
    guest.take_header(MessageType::UNLOAD_RESPONSE);
    assert_eq!(echo.serving.load(Ordering::SeqCst), 0);
}

#[test]
fn a_guest_connects_anew_with_or_without_an_unload() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    for (round, version) in versions().chain(VmbusVersion::ALL).enumerate() {
        let offers = guest.connect(version);
        assert_eq!(offers[0].child_relid, 1);
        let mut channel = guest.open(&offers[0], 2);
        channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
        assert_eq!(channel.receive(&guest).payload, b"12345678");
        if round % 2 == 0 && version >= VmbusVersion::V1_1 {
            guest.post_header(MessageType::UNLOAD);
            guest.take_header(MessageType::UNLOAD_RESPONSE);
        }
    }
    assert!(guest.server.report().errors.is_empty());
    assert_eq!(guest.server.report().channels_opened, 22);
}

#[test]
fn a_kernel_after_a_crash_finds_no_old_messages_in_the_queue() {
    let guest = TestGuest::new();
    for number in 0..20 {
        guest.server.add(Echo::new(number)).unwrap();
    }
    guest.contact(VmbusVersion::V5_3);
    guest.post_header(MessageType::REQUESTOFFERS);
    // It has taken only one of its messages, and one is in the slot.
    guest.take_bytes();
    wait_for("an offer", || (guest.server.report().messages_sent.len() == 3).then_some(()));
    let request = guest.contact_request(VmbusVersion::V4_0);
    guest.post(&request);
    let mut stale = 0;
    let response = loop {
        let bytes = guest.take_bytes();
        if let Ok(response) = VersionResponse::read_from_bytes(&bytes) {
            break response;
        }
        stale += 1;
    };
    assert!(stale <= 2, "{stale} offers of an older connection");
    assert_eq!(response.version_supported, 1);
    assert_eq!(guest.request_offers().len(), 20);
}

#[test]
fn messages_after_contact_come_by_connection_1() {
    let guest = TestGuest::new();
    assert_eq!(guest.contact(VmbusVersion::V5_3).msg_conn_id, 1);
    guest.post_by(4, MessageHeader::new(MessageType::REQUESTOFFERS).as_bytes());
    guest.expect_errors("wrong-connection", 1);
    guest.request_offers();
}

#[test]
fn a_bus_that_was_stopped_has_no_connections() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let _channel = guest.open(&offers[0], 2);
    assert!(
        VmbusServer::new(guest.synic.clone(), guest.memory.clone(), ServerOptions::new(1)).is_err()
    );
    assert_eq!(guest.server.stop(), Vec::<String>::new());
    let request = guest.contact_request(VmbusVersion::V5_3);
    assert_eq!(guest.try_post(1, request.as_bytes()), Err(HvError::INVALID_CONNECTION_ID));
    assert_eq!(guest.signal(offers[0].connection_id), Err(HvError::INVALID_CONNECTION_ID));
    assert_eq!(guest.routes(), 0);
    guest.server.stop();
}

#[test]
fn a_provider_that_never_returns_does_not_keep_the_bus_from_stopping() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let _channel = guest.open(&offers[0], 2);
    wait_for("the provider", || (echo.serving.load(Ordering::SeqCst) == 1).then_some(()));
    let hold = echo.hold.lock().unwrap();
    assert_eq!(guest.server.stop(), ["echo1"]);
    drop(hold);
}
