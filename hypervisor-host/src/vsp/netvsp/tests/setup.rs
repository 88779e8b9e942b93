use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::VmbusVersion;

use super::super::NetVspOptions;
use super::driver::{Driver, V6_1, word, words};

#[test]
fn a_card_is_offered_as_linux_looks_for_it() {
    let driver = Driver::open(1);
    let offer = driver.offer.offer;
    assert_eq!(offer.if_type.to_string(), "f8615163-df3e-46c5-913f-f2d2f965ed0e");
    assert_eq!(offer.if_instance.to_string(), "7a089391-0c52-4db1-a6f1-000000000000");
    assert_eq!(offer.sub_channel_index, 0);
}

#[test]
fn every_version_of_nvsp_works_on_every_version_of_the_bus() {
    for bus in VmbusVersion::ALL {
        for version in [2, 0x3_0002, 0x4_0000, 0x5_0000, 0x6_0000, V6_1] {
            let mut driver = Driver::with(NetVspOptions::new(0), bus);
            driver.set_up(version);
            let mtu = driver.control(&[4, 28, 3, 0x0001_0106, 0, 20, 0]);
            assert_eq!(mtu[24..], words(&[1500]), "{bus} {version:#x}");
            driver.peer.send(&[0xFF; 60]).unwrap();
            assert_eq!(driver.frames(1), [[0xFF; 60]]);
        }
    }
}

#[test]
fn answers_are_padded_as_the_version_wants() {
    let mut driver = Driver::open(1);
    let answer = driver.call(&[1, 0x6_0000, 0x6_0000]);
    // 28 bytes, and zeros to a multiple of 8.
    assert_eq!(answer.payload.len(), 32);
    let mut driver = Driver::open(1);
    assert_eq!(driver.call(&[1, V6_1, V6_1]).payload.len(), 40);
}

#[test]
fn a_newer_version_than_the_card_has_is_refused_first() {
    let options = NetVspOptions { newest: hv_abi::nvsp::NvspVersion::V4, ..NetVspOptions::new(0) };
    let mut driver = Driver::with(options, VmbusVersion::V5_3);
    for version in [V6_1, 0x6_0000, 0x5_0000] {
        assert_eq!(driver.call(&[1, version, version]).word(3), 2);
    }
    driver.set_up(0x4_0000);
}

#[test]
fn the_link_is_told_when_it_changes() {
    let mut driver = Driver::ready(1);
    let status = driver.control(&[4, 28, 3, 0x0001_0114, 0, 20, 0]);
    assert_eq!(word(&status, 6), 0);
    let next = |driver: &mut Driver| {
        let got = driver.next_packet();
        let bytes = driver.range(got.ranges[0]);
        driver.complete(got.transaction);
        assert_eq!((got.kind, got.word(1)), (PacketType::DATA_USING_XFER_PAGES, 1));
        bytes
    };
    driver.card.set_link(false);
    assert_eq!(next(&mut driver), words(&[7, 20, 0x4001_000C, 0, 0]));
    let status = driver.control(&[4, 28, 3, 0x0001_0114, 0, 20, 0]);
    assert_eq!(word(&status, 6), 1);
    driver.card.set_link(false);
    driver.expect_silence();
    driver.card.set_link(true);
    assert_eq!(next(&mut driver), words(&[7, 20, 0x4001_000B, 0, 0]));
    driver.peer.set_up(false);
    driver.peer.fail();
    assert_eq!(next(&mut driver), words(&[7, 20, 0x4001_000C, 0, 0]));
}

#[test]
fn a_card_is_closed_and_opened_again() {
    let mut driver = Driver::ready(1);
    driver.tell(&[103, 0xCAFE]);
    driver.tell(&[106, 0]);
    let Driver { guest, offer, channel, peer, card, .. } = driver;
    channel.close(&guest);
    let mut channel = guest.open(&offer, 4);
    let init = words(&[1, V6_1, V6_1, 0]);
    channel.send(&guest, &vmbus_ring::OutgoingPacket::in_band(5, &[&init]).with_completion());
    let answer = channel.receive(&guest);
    assert_eq!((answer.transaction_id, word(&answer.payload, 3)), (5, 1));
    drop((peer, card));
}

#[test]
fn halted_rndis_passes_no_frames_until_it_is_initialised_again() {
    let mut driver = Driver::ready(1);
    let halted = driver.send_direct(1, &words(&[3, 12, 9]));
    driver.expect_completion(halted, 1);
    driver.peer.send(&[0xFF; 60]).unwrap();
    driver.expect_silence();
    let refused = driver.send_direct(0, &super::driver::packet_message(&[0xFF; 60]));
    driver.expect_completion(refused, 2);
    driver.start();
    driver.peer.send(&[0xFF; 61]).unwrap();
    assert_eq!(driver.frames(1), [[0xFF; 61]]);
}
