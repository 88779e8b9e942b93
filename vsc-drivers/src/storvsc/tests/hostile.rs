//! A host that lies. Nothing panics, hangs, or reaches memory that it should not.

use alloc::vec;
use alloc::vec::Vec;

use hv_abi::vmbus::message::MessageType;
use proptest::prelude::*;
use vmbus_ring::{Control, OutgoingPacket};

use super::machine::{Machine, pause, with_disk, with_driver};
use super::target::{Act, MemoryDisk, On, Target};
use crate::bus::ChannelError;
use crate::fake::Mischief;
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions, StorVsc, join};

const READ: On = On::Command(0x28);

/// The error of a read that the host answers so.
fn read_error(act: Act) -> DiskErrorKind {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(READ, 1, act);
            let failed = disk.read_lent(0, IoBuffer::zeroed(1024).unwrap()).await.unwrap_err();
            assert_eq!(failed.buffers.len(), 1, "the host has answered");
            // The next is none the worse.
            disk.read(0, &mut [0; 512]).await.unwrap();
            failed.error.kind
        },
    )
}

fn say(scsi: u8, srb: u8, vstor: u32) -> Act {
    Act::Say { scsi, srb, vstor, sense: Vec::new() }
}

#[test]
fn more_bytes_than_asked_for_are_a_bad_reply() {
    assert_eq!(read_error(Act::Moved(1025)), DiskErrorKind::BadReply);
    assert_eq!(read_error(Act::Moved(u32::MAX)), DiskErrorKind::BadReply);
}

#[test]
fn fewer_bytes_than_asked_for_are_no_success() {
    assert_eq!(read_error(Act::Moved(0)), DiskErrorKind::ShortTransfer);
    assert_eq!(read_error(Act::Moved(1023)), DiskErrorKind::ShortTransfer);
}

#[test]
fn statuses_that_contradict_each_other_are_no_success() {
    // SCSI says good, and the others not, in all ways.
    assert_eq!(read_error(say(0, 0, 0)), DiskErrorKind::BadReply);
    assert_eq!(read_error(say(0, 1, 0xC000_0001)), DiskErrorKind::BadReply);
    assert_eq!(read_error(say(0, 4, 0)), DiskErrorKind::Host);
    // And the other way round.
    assert_eq!(read_error(say(2, 1, 0)), DiskErrorKind::BadReply);
    assert_eq!(read_error(say(0x99, 1, 0)), DiskErrorKind::BadReply);
}

#[test]
fn sense_data_that_is_announced_and_none_is_a_bad_reply() {
    assert_eq!(read_error(say(2, 0x84, 0)), DiskErrorKind::BadReply);
    let garbage = Act::Say { scsi: 2, srb: 0x84, vstor: 0, sense: vec![0xFF; 20] };
    assert_eq!(read_error(garbage), DiskErrorKind::BadReply);
}

#[test]
fn a_sense_length_beyond_the_buffer_is_cut() {
    let mut raw = vec![0; 64];
    raw[0] = 1;
    raw[14..16].copy_from_slice(&[0x84, 2]);
    raw[21] = 255;
    raw[28..31].copy_from_slice(&[0x70, 0, 3]);
    assert_eq!(read_error(Act::Raw(raw)), DiskErrorKind::Medium);
}

#[test]
fn answers_too_short_or_with_another_operation_are_bad_replies() {
    let mut short = vec![0; 56];
    (short[0], short[14]) = (1, 1);
    assert_eq!(read_error(Act::Raw(short)), DiskErrorKind::BadReply);
    let mut other = vec![0; 64];
    (other[0], other[14]) = (11, 1);
    assert_eq!(read_error(Act::Raw(other)), DiskErrorKind::BadReply);
}

#[test]
fn answers_to_nothing_are_counted_and_change_nothing() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            disk.write(0, &[7; 512]).await.unwrap();
            // Another slot, another use of the slot, no slot at all.
            for bits in [1, 1 << 16, 1 << 60, u64::MAX] {
                machine.target().rule(READ, 1, Act::Stray(bits));
                let mut back = [0; 512];
                disk.read(0, &mut back).await.unwrap();
                assert_eq!(back, [7; 512]);
            }
            assert_eq!(storvsc.counts().rejected, 4);
        },
    );
}

#[test]
fn second_answers_are_counted_and_change_nothing() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            machine.target().rule(READ, 50, Act::Twice);
            for _ in 0..50 {
                disk.read(0, &mut [0; 512]).await.unwrap();
            }
            pause(machine, 1).await;
            assert_eq!(storvsc.counts().rejected, 50);
        },
    );
}

#[test]
fn an_answer_on_another_channel_fits_no_request() {
    // With the same slot and use: it must not end the other channel's request. See `channels.rs` for the channels.
    super::channels::foreign_answers();
}

#[test]
fn packets_of_unknown_kinds_are_counted() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let end = machine.end(0);
            let before = storvsc.counts().rejected;
            end.send(&OutgoingPacket::in_band(0, &[&[0xFF; 64]]));
            end.send(&OutgoingPacket::in_band(0, &[]));
            end.send(&OutgoingPacket::in_band(77, &[&1u32.to_le_bytes()]));
            end.send(&OutgoingPacket::completion(0, &[&[1, 0, 0, 0]]));
            end.send(&OutgoingPacket::completion(0, &[]));
            pause(machine, 1).await;
            assert_eq!(storvsc.counts().rejected - before, 5);
            storvsc.disk(0).unwrap().read(0, &mut [0; 512]).await.unwrap();
        },
    );
}

#[test]
fn a_packet_longer_than_any_of_the_protocol_ends_the_channel() {
    let machine = Machine::new(|_| {});
    machine.run(async {
        let storvsc = machine.start(StorOptions::default()).await.unwrap();
        machine.end(0).send(&OutgoingPacket::in_band(0, &[&[0; 4096]]));
        let error = storvsc.run().await;
        assert!(matches!(error, ChannelError::BufferTooSmall { .. }), "{error:?}");
        assert!(storvsc.disks().is_empty());
    });
}

#[test]
fn a_broken_ring_ends_all_requests() {
    let machine = Machine::new(|target| target.rule(READ, usize::MAX, Act::Silence));
    machine.run(async {
        let storvsc = machine.start(StorOptions::default()).await.unwrap();
        let disk = storvsc.disk(0).unwrap();
        let reads = many_reads(&disk, 300);
        let breaking = async {
            machine.host.until(|_| machine.target().commands(0x28) >= 256).await;
            machine.end(0).break_ring(Control::WriteIndex, 0xFFFF_FFF8);
            machine.end(0).interrupt();
            core::future::pending::<()>().await;
        };
        let others = Vec::from([join::task(storvsc.run()), join::task(breaking)]);
        let errors = join::beside(reads, others).await;
        assert_eq!(errors, vec![DiskErrorKind::Gone; 300]);
        // The host has closed the channel, though it broke the ring.
        assert_eq!(storvsc.in_flight(), 0);
    });
}

/// The errors of so many reads at once.
async fn many_reads(
    disk: &crate::storvsc::Disk<crate::fake::FakeHal>,
    count: usize,
) -> Vec<DiskErrorKind> {
    let mut errors = Vec::new();
    let reads = (0..count).map(|_| disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
    join::for_each(reads, count, |result| errors.push(result.unwrap_err().error.kind)).await;
    errors
}

#[test]
fn a_host_that_breaks_the_ring_and_never_closes_the_channel_keeps_the_memory() {
    let machine = Machine::new(|target| target.rule(READ, usize::MAX, Act::Silence));
    machine.run(async {
        let storvsc = machine.start(StorOptions::default()).await.unwrap();
        let disk = storvsc.disk(0).unwrap();
        machine.host.misbehave(MessageType::GPADL_TEARDOWN, 9, Mischief::Mute);
        let breaking = async {
            machine.host.until(|_| machine.target().commands(0x28) >= 20).await;
            machine.end(0).break_ring(Control::WriteIndex, 0xFFFF_FFF8);
            machine.end(0).interrupt();
            core::future::pending::<()>().await;
        };
        let others = Vec::from([join::task(storvsc.run()), join::task(breaking)]);
        let errors = join::beside(many_reads(&disk, 20), others).await;
        assert_eq!(errors, vec![DiskErrorKind::Gone; 20]);
        assert_eq!(storvsc.in_flight(), 20);
    });
}

#[test]
fn a_rescind_with_hundreds_of_requests_in_flight_ends_them_all() {
    let machine = Machine::new(|target| target.rule(READ, usize::MAX, Act::Silence));
    machine.run(async {
        let storvsc = machine.start(StorOptions::default()).await.unwrap();
        let disk = storvsc.disk(0).unwrap();
        let rescind = async {
            machine.host.until(|_| machine.target().commands(0x28) >= 256).await;
            machine.host.rescind(machine.channel);
            core::future::pending::<()>().await;
        };
        let driver = async {
            assert_eq!(storvsc.run().await, ChannelError::Rescinded);
        };
        // 256 in flight, 244 that wait for a slot.
        let others = Vec::from([join::task(driver), join::task(rescind)]);
        let errors = join::beside(many_reads(&disk, 500), others).await;
        assert_eq!(errors, vec![DiskErrorKind::Gone; 500]);
        assert_eq!(storvsc.in_flight(), 0);
        assert_eq!(disk.read(0, &mut [0; 512]).await.unwrap_err().kind, DiskErrorKind::Gone);
        assert_eq!(storvsc.run().await, ChannelError::Rescinded);
        assert!(storvsc.disks().is_empty() && disk.is_gone());
    });
}

fn disks_with(change: impl FnOnce(&mut MemoryDisk, &mut Vec<(On, usize, Act)>)) -> usize {
    let prepare = |target: &mut Target| {
        let mut rules = Vec::new();
        change(target.disks.get_mut(&0).unwrap(), &mut rules);
        target.rules = rules;
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| storvsc.disks().len())
}

#[test]
fn capacities_that_can_not_be_make_no_disk() {
    let capacity = |last: u32, block: u32| {
        let data = [last.to_be_bytes(), block.to_be_bytes()].concat();
        (On::Command(0x25), 1, Act::Data(data))
    };
    for block in [0, 1, 511, 513, 1 << 31, u32::MAX] {
        assert_eq!(disks_with(|_, rules| rules.push(capacity(100, block))), 0, "{block}");
    }
    // All bytes would not fit in 64 bits.
    assert_eq!(disks_with(|disk, _| disk.claims = Some(u64::MAX / 512 + 1)), 0);
    assert_eq!(disks_with(|disk, _| disk.claims = Some(0)), 0);
    // The two commands differ.
    assert_eq!(disks_with(|_, rules| rules.push(capacity(100, 512))), 0);
    // Too short to say anything.
    assert_eq!(disks_with(|_, rules| rules.push((On::Command(0x25), 1, Act::Data(vec![0; 7])))), 0);
    assert_eq!(disks_with(|_, _| ()), 1);
}

#[test]
fn what_is_no_disk_by_inquiry_is_left_alone() {
    for data in [vec![], vec![0; 35], vec![0x7F; 36], vec![0x05; 36]] {
        let rule = (On::Command(0x12), 1, Act::Data(data));
        assert_eq!(disks_with(|_, rules| rules.push(rule)), 0);
    }
}

#[test]
fn pages_that_lie_change_no_more_than_what_they_say() {
    // All INQUIRY answers but the first are garbage.
    let prepare = |target: &mut Target| {
        target.rule(On::Command(0x12), 1, Act::Moved(36));
        target.rule(On::Command(0x12), 9, Act::Data(vec![0xFF; 252]));
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| {
        let disk = storvsc.disk(0).unwrap();
        assert!(disk.provisioning().is_none() && disk.identity().serial.is_empty());
        disk.read(0, &mut [0; 512]).await.unwrap();
    });
}

#[test]
fn an_inquiry_longer_than_its_room_is_no_disk() {
    assert_eq!(disks_with(|_, rules| rules.push((On::Command(0x12), 1, Act::Moved(37)))), 0);
}

#[test]
fn a_unit_list_that_lies_is_read_as_far_as_it_goes() {
    let mut list = vec![0xFF; 8];
    list.extend([0, 0, 0, 0, 0, 0, 0, 0]);
    let rule = (On::Command(0xA0), 1, Act::Data(list));
    assert_eq!(disks_with(|_, rules| rules.push(rule)), 1);
}

#[test]
fn a_flood_of_notices_is_seen_to_once_at_a_time() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let before = machine.target().commands(0xA0);
            for _ in 0..500 {
                machine.tell(11);
            }
            pause(machine, 1000).await;
            assert!(machine.target().commands(0xA0) - before <= 3);
            assert_eq!(storvsc.counts().notices, 500);
            storvsc.disk(0).unwrap().read(0, &mut [0; 512]).await.unwrap();
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_packets_leave_the_driver_alive_or_the_channel_ended(
        packets in prop::collection::vec((any::<bool>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..100)), 1..20),
    ) {
        let machine = Machine::new(|_| {});
        machine.run(async {
            let storvsc: StorVsc<_> = machine.start(StorOptions::default()).await.unwrap();
            let disk = storvsc.disk(0).unwrap();
            let test = async {
                for (completion, transaction, payload) in &packets {
                    let payload: [&[u8]; 1] = [payload];
                    let packet = if *completion {
                        // Near what is there: small numbers of slots and uses.
                        OutgoingPacket::completion(transaction & 0x000F_00FF, &payload)
                    } else {
                        OutgoingPacket::in_band(*transaction, &payload)
                    };
                    machine.end(0).send(&packet);
                    let _ = disk.read(0, &mut [0; 512]).await;
                }
                disk.read(0, &mut [0; 512]).await.unwrap();
            };
            join::beside(test, Vec::from([join::task(storvsc.run())])).await;
        });
    }
}
