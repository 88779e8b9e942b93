//! Counts: signals, interrupts and copies for each request.

use alloc::vec::Vec;

use super::machine::{Machine, with_driver};
use super::target::{Act, On};
use crate::storvsc::{Doorbell, IoBuffer, StorOptions, join};

fn signals(machine: &Machine) -> u64 {
    machine.host.signals(machine.channel).0
}

#[test]
fn one_request_costs_one_signal_and_one_interrupt() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            let (before, signals_before) = (storvsc.counts(), signals(machine));
            for _ in 0..100 {
                disk.read_lent(0, IoBuffer::zeroed(4096).unwrap()).await.unwrap();
            }
            let after = storvsc.counts();
            assert_eq!(after.requests - before.requests, 100);
            assert_eq!(signals(machine) - signals_before, 100);
            assert!(after.wakeups - before.wakeups <= 100);
            assert_eq!(after.copied_bytes, before.copied_bytes);
        },
    );
}

#[test]
fn requests_that_are_made_together_cost_one_signal() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            for count in [32, 200] {
                let (before, signals_before) = (storvsc.counts(), signals(machine));
                let reads = (0..count).map(|_| disk.read_lent(0, IoBuffer::zeroed(4096).unwrap()));
                join::for_each(reads, count, |result| assert!(result.is_ok())).await;
                let after = storvsc.counts();
                assert_eq!(after.requests - before.requests, count as u64);
                assert_eq!(signals(machine) - signals_before, 1, "{count}");
            }
        },
    );
}

#[test]
fn a_host_that_answers_together_interrupts_once() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            machine.target().rule(On::Command(0x28), 32, Act::Hold);
            let before = storvsc.counts();
            let reads = (0..32).map(|_| disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            let reads = join::for_each(reads, 32, |result| assert!(result.is_ok()));
            let host = async {
                machine.host.until(|_| machine.target().held.len() == 32).await;
                while !machine.target().held.is_empty() {
                    machine.release();
                }
                core::future::pending::<()>().await;
            };
            join::beside(reads, Vec::from([join::task(host)])).await;
            let after = storvsc.counts();
            assert_eq!(
                (after.completions - before.completions, after.wakeups - before.wakeups),
                (32, 1)
            );
        },
    );
}

#[test]
fn an_immediate_doorbell_sends_before_the_drivers_task_runs() {
    let options = StorOptions { doorbell: Doorbell::Immediate, ..StorOptions::default() };
    with_driver(
        |_| {},
        options,
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            let before = signals(machine);
            let mut read = core::pin::pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            assert!(super::machine::poll_once(read.as_mut()).is_pending());
            assert_eq!(signals(machine) - before, 1);
            read.await.unwrap();
        },
    );
}
