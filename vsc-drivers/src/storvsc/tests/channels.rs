//! More than one channel.

use alloc::vec;
use alloc::vec::Vec;
use core::pin::pin;

use hv_abi::storvsp::SCSI_GUID;

use super::machine::{INSTANCE, Machine};
use super::target::{Act, On, Target};
use crate::fake::{FakeHal, FakeOffer};
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions, StorVsc, join};

/// Runs `test` on a machine whose host offers `offered` sub-channels of which the guest wants `wanted` channels in all.
fn with_channels<T>(
    offered: u16,
    options: StorOptions,
    prepare: impl FnOnce(&mut Target),
    test: impl AsyncFnOnce(&Machine, &StorVsc<FakeHal>) -> T,
) -> T {
    let machine = Machine::new(|target| {
        target.sub_channels = offered;
        prepare(target);
    });
    let subs: Vec<_> = (1..=offered)
        .map(|index| {
            machine.host.offer(FakeOffer::new(SCSI_GUID).instance(INSTANCE).sub_channel(index))
        })
        .collect();
    machine.run(async {
        let mut devices: Vec<_> = subs.iter().map(|sub| join::task(machine.serve(*sub))).collect();
        let body = async {
            let storvsc = machine.start(options).await.unwrap();
            join::beside(test(&machine, &storvsc), Vec::from([join::task(storvsc.run())])).await
        };
        let mut body = pin!(body);
        core::future::poll_fn(|context| {
            devices.retain_mut(|device| device.as_mut().poll(context).is_pending());
            body.as_mut().poll(context)
        })
        .await
    })
}

fn options(channels: u16) -> StorOptions {
    StorOptions { channels, ..StorOptions::default() }
}

#[test]
fn as_many_channels_are_opened_as_both_sides_want() {
    for (offered, wanted, opened) in [(3, 4, 4), (3, 2, 2), (3, 9, 4), (0, 4, 1), (2, 1, 1)] {
        with_channels(
            offered,
            options(wanted),
            |_| {},
            async |machine, storvsc| {
                assert_eq!(storvsc.channels(), opened, "{offered} offered, {wanted} wanted");
                assert_eq!(usize::from(machine.target().asked_sub_channels), opened - 1);
            },
        );
    }
}

#[test]
fn before_version_5_1_there_is_one_channel() {
    with_channels(
        3,
        options(4),
        |target| target.versions = vec![0x0402],
        async |_, storvsc| {
            assert_eq!(storvsc.channels(), 1);
        },
    );
}

#[test]
fn a_host_that_refuses_or_forgets_sub_channels_is_done_without() {
    for act in [Act::Status(0xC000_0001), Act::Silence] {
        let prepare = |target: &mut Target| target.rule(On::Operation(13), 1, act);
        with_channels(2, options(3), prepare, async |_, storvsc| {
            assert_eq!(storvsc.channels(), 1);
            storvsc.disk(0).unwrap().read(0, &mut [0; 512]).await.unwrap();
        });
    }
    // It says yes, and offers none.
    let machine = Machine::new(|target| target.sub_channels = 2);
    machine.run(async {
        let storvsc = machine.start(options(3)).await.unwrap();
        assert_eq!(storvsc.channels(), 1);
    });
}

#[test]
fn signals_go_to_the_processors_that_are_named() {
    let options = StorOptions { vps: vec![5, 6], ..options(3) };
    with_channels(
        2,
        options,
        |_| {},
        async |machine, _| {
            let vps: Vec<_> =
                (0..3).map(|index| machine.host.target_vp(machine.end(index).channel())).collect();
            assert_eq!(vps, [Some(5), Some(6), Some(5)]);
        },
    );
}

#[test]
fn requests_are_spread_by_address_or_go_where_the_handle_says() {
    with_channels(
        2,
        options(3),
        |_| {},
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            let used = |machine: &Machine| -> Vec<u64> {
                (0..3).map(|index| machine.host.signals(machine.end(index).channel()).0).collect()
            };
            let before = used(machine);
            for stripe in 0..12 {
                disk.read(stripe * 128, &mut [0; 512]).await.unwrap();
            }
            let after = used(machine);
            assert!(
                before.iter().zip(&after).all(|(before, after)| after - before == 4),
                "{after:?}"
            );
            let second = disk.clone().on_channel(1);
            for stripe in 0..12 {
                second.read(stripe * 128, &mut [0; 512]).await.unwrap();
            }
            assert_eq!(used(machine)[1] - after[1], 12);
            // Whoever polls one channel only waits for ever for what goes by another.
            second.flush().await.unwrap();
            assert_eq!(used(machine)[1] - after[1], 13);
        },
    );
}

#[test]
fn the_other_channels_go_on_when_a_sub_channel_is_taken_back() {
    with_channels(
        1,
        options(2),
        |_| {},
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap().on_channel(1);
            machine.target().rule(On::Command(0x28), 3, Act::Silence);
            let channel = machine.end(1).channel();
            let rescind = async {
                machine.host.until(|_| machine.target().commands(0x28) >= 3).await;
                machine.host.rescind(channel);
                core::future::pending::<()>().await;
            };
            let reads = async {
                let mut done = 0;
                let three = (0..3).map(|_| disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
                join::for_each(three, 3, |result| {
                    result.unwrap();
                    done += 1;
                })
                .await;
                done
            };
            assert_eq!(join::beside(reads, Vec::from([join::task(rescind)])).await, 3);
            disk.read(0, &mut [0; 512]).await.unwrap();
            assert_eq!(machine.target().commands(0x28), 7);
        },
    );
}

#[test]
fn a_rescind_of_the_primary_ends_the_others_soon() {
    with_channels(
        1,
        options(2),
        |_| {},
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            machine.target().rule(On::Command(0x28), 9, Act::Silence);
            let second = disk.clone().on_channel(1);
            let rescind = async {
                machine.host.until(|_| machine.target().commands(0x28) >= 3).await;
                machine.host.rescind(machine.channel);
                core::future::pending::<()>().await;
            };
            let mut errors = Vec::new();
            let three = (0..3).map(|_| second.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            let reads = join::for_each(three, 3, |result| errors.push(result.unwrap_err()));
            join::beside(reads, Vec::from([join::task(rescind)])).await;
            assert!(errors.iter().all(|failed| failed.error.kind == DiskErrorKind::Gone));
            // That channel was closed, too, and the host has said so.
            assert!(errors.iter().all(|failed| failed.buffers.len() == 1));
            super::machine::pause(machine, 100).await;
            assert!(disk.is_gone() && storvsc.disks().is_empty());
            assert_eq!(disk.flush().await.unwrap_err().kind, DiskErrorKind::Gone);
        },
    );
}

/// An answer with the number of another channel's request.
pub(super) fn foreign_answers() {
    with_channels(
        1,
        options(2),
        |_| {},
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap().on_channel(1);
            machine.target().rule(On::Command(0x28), 1, Act::Hold);
            let read = disk.read_lent(0, IoBuffer::zeroed(512).unwrap());
            let foreign = async {
                machine.host.until(|_| !machine.target().held.is_empty()).await;
                let packet = machine.target().held[0].clone();
                // On the primary, where it is not that of any request.
                machine.end(0).complete(&packet, &[1; 64]);
                super::machine::pause(machine, 10).await;
                assert!(storvsc.in_flight() == 1);
                let end = machine.end(1);
                machine.target().release(&end, 0);
                core::future::pending::<()>().await;
            };
            let result = join::beside(read, Vec::from([join::task(foreign)])).await;
            result.unwrap();
            assert_eq!(storvsc.counts().rejected, 1);
        },
    );
}

#[test]
fn channels_have_their_own_tables() {
    with_channels(
        1,
        StorOptions { depth: 4, ..options(2) },
        |_| {},
        async |machine, storvsc| {
            machine.target().rule(On::Command(0x28), 4, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let (full, free) = (disk.clone().on_channel(0), disk.on_channel(1));
            let stuck = (0..6).map(|_| full.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            let stuck = join::for_each(stuck, 6, |result| assert!(result.is_ok()));
            let other = async {
                machine.host.until(|_| machine.target().held.len() == 4).await;
                free.read(0, &mut [0; 512]).await.unwrap();
                for _ in 0..4 {
                    machine.release();
                }
                core::future::pending::<()>().await;
            };
            join::beside(stuck, Vec::from([join::task(other)])).await;
            assert_eq!(machine.target().commands(0x28), 7);
        },
    );
}
