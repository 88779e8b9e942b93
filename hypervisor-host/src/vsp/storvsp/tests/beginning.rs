//! The protocol's beginning, byte for byte and in every version.

use hv_abi::storvsp::{ChannelProperties, Operation, StorvspVersion, VstorStatus};
use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::version::VmbusVersion;
use zerocopy::FromBytes;

use super::guest::*;
use crate::storage::engine::EngineChoice;
use crate::storage::memory::MemoryDisk;
use crate::vsp::storvsp::StorvspOptions;
use std::sync::Arc;

fn disk() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(vec![7; 1 << 20]))
}

#[test]
fn packets_look_as_linux_makes_and_takes_them() {
    let machine = Machine::new(&[disk()]);
    let mut channel = machine.open();
    let mut exchange = |question: &[u8]| {
        let mut bytes = [0; 64];
        bytes[..question.len()].copy_from_slice(question);
        channel.send_bytes(&bytes);
        channel.answer().1
    };
    let answer = |beginning: &[u8]| {
        let mut bytes = vec![0; 64];
        bytes[..beginning.len()].copy_from_slice(beginning);
        bytes
    };
    // Operation, flags (a completion is wanted), status; then what the operation has.
    assert_eq!(exchange(&[7, 0, 0, 0, 1]), answer(&[1]));
    // An unknown version: STATUS_REVISION_MISMATCH.
    let unknown = [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 7];
    assert_eq!(exchange(&unknown), answer(&[1, 0, 0, 0, 0, 0, 0, 0, 0x59, 0, 0, 0xC0, 3, 7]));
    let version = [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 6];
    assert_eq!(exchange(&version), answer(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 6]));
    // Reserved, 3 sub-channels, reserved, multi-channel, 1 MiB.
    let properties =
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10];
    assert_eq!(exchange(&[10, 0, 0, 0, 1]), answer(&properties));
    assert_eq!(exchange(&[8, 0, 0, 0, 1]), answer(&[1]));
    // TEST UNIT READY: length 52, status 1 (success).
    let request = [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 6, 20, 2];
    let done = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 1, 0, 0, 0, 0, 0, 6, 0, 2];
    assert_eq!(exchange(&request), answer(&done));
}

#[test]
fn every_version_begins_and_reads() {
    for version in StorvspVersion::ALL {
        let machine = Machine::new(&[disk()]);
        let mut channel = machine.open();
        channel.begin(version);
        assert_eq!(channel.read_blocks(0, 1, 2), (Outcome::done(1024), vec![7; 1024]), "{version}");
        // Sense data has room in every version's answer.
        assert_eq!(channel.read_blocks(0, 2048, 1).0, Outcome::failed(5, 0x21, 0), "{version}");
    }
}

#[test]
fn an_older_host_refuses_newer_versions() {
    let options = StorvspOptions { newest: StorvspVersion::V5_1, ..StorvspOptions::new(1) };
    let machine = Machine::with(&[disk()], options, VmbusVersion::V5_3, EngineChoice::Threads);
    let mut channel = machine.open();
    channel.expect(Operation::BEGIN_INITIALIZATION, &[]);
    for version in [StorvspVersion::V6_2, StorvspVersion::V6_0, StorvspVersion(0x0500)] {
        assert_eq!(channel.query_version(version), VstorStatus::REVISION_MISMATCH);
    }
    assert_eq!(channel.query_version(StorvspVersion::V5_1), VstorStatus::SUCCESS);
}

fn properties(bus: VmbusVersion, version: StorvspVersion, vps: u32) -> (u16, u32) {
    let machine = Machine::with(&[disk()], StorvspOptions::new(vps), bus, EngineChoice::Threads);
    let mut channel = machine.open();
    channel.expect(Operation::BEGIN_INITIALIZATION, &[]);
    assert_eq!(channel.query_version(version), VstorStatus::SUCCESS);
    let rest = channel.expect(Operation::QUERY_PROPERTIES, &[]);
    let properties = ChannelProperties::read_from_prefix(&rest).unwrap().0;
    (properties.max_channel_cnt, properties.flags)
}

#[test]
fn sub_channels_are_offered_where_both_protocols_have_them() {
    assert_eq!(properties(VmbusVersion::V5_3, StorvspVersion::V5_1, 4), (3, 1));
    assert_eq!(properties(VmbusVersion::V5_3, StorvspVersion::V6_2, 64), (16, 1));
    assert_eq!(properties(VmbusVersion::V5_3, StorvspVersion::V6_2, 1), (0, 0));
    assert_eq!(properties(VmbusVersion::V5_3, StorvspVersion::V4_2, 4), (0, 0));
    assert_eq!(properties(VmbusVersion::V1_1, StorvspVersion::V6_2, 4), (0, 0));
}

#[test]
fn what_comes_at_the_wrong_time_changes_nothing() {
    let machine = Machine::new(&[disk()]);
    let mut channel = machine.open();
    let state = VstorStatus::INVALID_DEVICE_STATE;
    let steps = [
        Operation::BEGIN_INITIALIZATION,
        Operation::QUERY_PROTOCOL_VERSION,
        Operation::QUERY_PROPERTIES,
        Operation::END_INITIALIZATION,
    ];
    for (number, step) in steps.iter().enumerate() {
        for wrong in steps.iter().enumerate().filter(|(other, _)| *other != number) {
            assert_eq!(channel.ask(*wrong.1, &[2, 6]).0, state, "{wrong:?} at {number}");
        }
        for wrong in [Operation::EXECUTE_SRB, Operation::RESET_BUS] {
            assert_eq!(channel.ask(wrong, &[]).0, state, "{wrong:?} at {number}");
        }
        channel.expect(*step, &[2, 6]);
    }
    for wrong in steps {
        assert_eq!(channel.ask(wrong, &[2, 6]).0, state, "{wrong:?} when ready");
    }
    assert_eq!(channel.command(0, &[0; 6]), Outcome::done(0));
}

#[test]
fn operations_of_others_are_refused() {
    let machine = Machine::new(&[disk()]);
    let mut channel = machine.start();
    let refused = VstorStatus::INVALID_DEVICE_REQUEST;
    for operation in [0, 1, 2, 11, 12, 14, u32::MAX] {
        assert_eq!(channel.ask(Operation(operation), &[]).0, refused, "{operation}");
    }
    assert_eq!(channel.command(0, &[0; 6]), Outcome::done(0));
}

#[test]
fn sub_channels_serve_requests_of_their_own() {
    let machine = Machine::new(&[disk()]);
    let mut channel = machine.start();
    channel.expect(Operation::CREATE_SUB_CHANNELS, &3_u16.to_le_bytes());
    let mut offers: Vec<OfferChannel> = (0..3).map(|_| machine.guest.take()).collect();
    offers.sort_by_key(|offer| offer.offer.sub_channel_index);
    assert_eq!(offers[2].offer.sub_channel_index, 3);
    // There are no more.
    let (status, _) = channel.ask(Operation::CREATE_SUB_CHANNELS, &1_u16.to_le_bytes());
    assert_eq!(status, VstorStatus::INVALID_PARAMETER);
    let mut others: Vec<_> = offers.iter().map(|offer| machine.open_offer(offer)).collect();
    for (number, other) in others.iter_mut().enumerate() {
        let content = vec![number as u8; 512];
        assert_eq!(other.write_blocks(0, number as u32, &content), Outcome::done(512));
        assert_eq!(other.ask(Operation::CREATE_SUB_CHANNELS, &[0, 0]).0, VstorStatus::SUCCESS);
        let begin = other.ask(Operation::BEGIN_INITIALIZATION, &[]).0;
        assert_eq!(begin, VstorStatus::INVALID_DEVICE_STATE);
    }
    let (outcome, content) = channel.read_blocks(0, 0, 4);
    assert_eq!(outcome, Outcome::done(2048));
    assert_eq!([content[0], content[512], content[1024], content[1536]], [0, 1, 2, 7]);
}

#[test]
fn a_channel_begins_anew_when_it_is_opened_again() {
    let machine = Machine::new(&[disk()]);
    for version in [StorvspVersion::V6_2, StorvspVersion::V2_0, StorvspVersion::V6_2] {
        let mut channel = machine.open();
        assert_eq!(channel.ask(Operation::RESET_BUS, &[]).0, VstorStatus::INVALID_DEVICE_STATE);
        channel.begin(version);
        assert_eq!(channel.command(0, &[0; 6]), Outcome::done(0));
        channel.channel.close(&machine.guest);
    }
}
