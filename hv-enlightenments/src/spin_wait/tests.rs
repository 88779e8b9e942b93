//! Waits: how often each is told, and to whom it counts.

use alloc::string::ToString;
use alloc::vec::Vec;

use hv_abi::hypercall::HvError;
use proptest::prelude::*;

use super::*;
use crate::test_platform::test_platform;

fn wait<W: SpinWait>(rounds: u32) {
    let mut waiter = Waiter::<W>::new();
    for _ in 0..rounds {
        waiter.relax();
    }
}

#[test]
fn long_spin_is_reported_once_per_threshold_with_the_accumulated_count() {
    test_platform!(Kernel);
    Kernel::enable(100);
    wait::<Enlightened<Kernel>>(350);
    let calls = Kernel::calls();
    assert!(calls.iter().all(|call| call.rcx == 0x1_0008 && !call.xmm));
    let parameters: Vec<_> = calls.iter().map(|call| call.registers.general).collect();
    assert_eq!(parameters, [[100, 0], [200, 0], [300, 0]]);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 350, notifications: 3 });
}

#[test]
fn short_waits_do_not_add_up() {
    test_platform!(Kernel);
    Kernel::enable(100);
    for _ in 0..50 {
        wait::<Enlightened<Kernel>>(99);
    }
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 4950, notifications: 0 });
    assert!(Kernel::calls().is_empty());
}

#[test]
fn a_wait_that_reaches_the_threshold_exactly_is_long() {
    test_platform!(Kernel);
    Kernel::enable(100);
    wait::<Enlightened<Kernel>>(100);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 100, notifications: 1 });
}

#[test]
fn threshold_one_reports_every_round() {
    test_platform!(Kernel);
    Kernel::enable(1);
    wait::<Enlightened<Kernel>>(7);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 7, notifications: 7 });
    assert_eq!(Kernel::calls().len(), 7);
}

#[test]
fn thresholds_never_and_zero_never_notify() {
    for ebx in [u32::MAX, 0] {
        let threshold = SpinThreshold::from_cpuid(ebx);
        assert_eq!((threshold, threshold.rounds()), (SpinThreshold::NEVER, None));
        assert_eq!((threshold.to_string(), threshold.raw()), ("never".to_string(), u32::MAX));
    }
    test_platform!(Kernel);
    Kernel::enable(0);
    wait::<Enlightened<Kernel>>(100_000);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 100_000, notifications: 0 });
}

#[test]
fn before_the_notifier_is_enabled_waits_are_only_counted() {
    test_platform!(Kernel);
    wait::<Enlightened<Kernel>>(1000);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 1000, notifications: 0 });
    assert!(!NOTIFIER.notify(1000));
    assert!(Kernel::calls().is_empty());
}

#[test]
fn a_plain_wait_counts_with_the_same_counters_and_never_notifies() {
    test_platform!(Kernel);
    Kernel::enable(10);
    wait::<Plain<Kernel>>(1000);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 1000, notifications: 0 });
    assert!(Kernel::calls().is_empty());
}

#[test]
fn a_change_of_threshold_takes_hold_within_a_wait() {
    test_platform!(Kernel);
    Kernel::enable(100);
    let mut waiter = Waiter::<Enlightened<Kernel>>::new();
    (0..100).for_each(|_| waiter.relax());
    Kernel::enable(10);
    // Up to its next report the wait goes by the threshold it found.
    (0..100).for_each(|_| waiter.relax());
    (0..20).for_each(|_| waiter.relax());
    drop(waiter);
    let told: Vec<_> = Kernel::calls().iter().map(|call| call.registers.general[0]).collect();
    assert_eq!(told, [100, 200, 210, 220]);
    NOTIFIER.disable();
    wait::<Enlightened<Kernel>>(1000);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 1220, notifications: 4 });
}

#[test]
fn a_wait_under_way_when_the_notifier_is_disabled_stops_notifying() {
    test_platform!(Kernel);
    Kernel::enable(10);
    let mut waiter = Waiter::<Enlightened<Kernel>>::new();
    (0..15).for_each(|_| waiter.relax());
    NOTIFIER.disable();
    (0..15).for_each(|_| waiter.relax());
    drop(waiter);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 30, notifications: 1 });
    assert_eq!(Kernel::calls().len(), 1);
}

#[test]
fn a_hypervisor_that_refuses_is_asked_once_and_the_call_is_counted() {
    test_platform!(Kernel);
    Kernel::enable(10);
    CPU.on_call(|_| u64::from(HvError::ACCESS_DENIED.0.get()));
    wait::<Enlightened<Kernel>>(1000);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 1000, notifications: 1 });
    assert_eq!(Kernel::calls().len(), 1);
    assert_eq!(NOTIFIER.refusal(), Some(HvError::ACCESS_DENIED));
    assert_eq!(NOTIFIER.threshold(), SpinThreshold::NEVER);
    // Enabled anew, it is asked again.
    CPU.on_call(|_| 0);
    Kernel::enable(10);
    wait::<Enlightened<Kernel>>(10);
    assert_eq!((NOTIFIER.refusal(), Kernel::calls().len()), (None, 2));
}

#[test]
fn an_interrupt_that_waits_within_a_wait_disturbs_neither_count() {
    test_platform!(Kernel);
    Kernel::enable(100);
    let mut outer = Waiter::<Enlightened<Kernel>>::new();
    for round in 0..250 {
        if round == 125 {
            wait::<Enlightened<Kernel>>(120);
        }
        outer.relax();
    }
    drop(outer);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 370, notifications: 3 });
    let told: Vec<_> = Kernel::calls().iter().map(|call| call.registers.general[0]).collect();
    assert_eq!(told, [100, 100, 200]);
}

#[test]
fn an_interrupt_within_the_hypercall_may_notify_too() {
    test_platform!(Kernel);
    Kernel::enable(10);
    CPU.on_call(|call| {
        // The first call is interrupted by a handler that waits.
        if call.registers.general[0] == 10 && Kernel::calls().len() == 1 {
            wait::<Enlightened<Kernel>>(25);
        }
        0
    });
    wait::<Enlightened<Kernel>>(12);
    assert_eq!(Kernel::counts(), SpinCounts { iterations: 37, notifications: 3 });
    assert_eq!(Kernel::calls().len(), 3);
}

#[test]
fn a_bare_wait_needs_no_kernel() {
    wait::<Bare>(1000);
}

#[test]
fn counts_are_differences_and_sums() {
    let counts = |iterations, notifications| SpinCounts { iterations, notifications };
    assert_eq!(counts(10, 3).since(counts(4, 1)), counts(6, 2));
    assert_eq!([counts(1, 2), counts(3, 4)].into_iter().sum::<SpinCounts>(), counts(4, 6));
}

#[test]
fn counters_of_two_processors_share_no_cache_line() {
    assert_eq!((size_of::<SpinStats>(), align_of::<SpinStats>()), (64, 64));
}

#[cfg(feature = "spin")]
mod relax {
    use spin::RelaxStrategy;

    use super::*;
    use crate::lock::Relax;

    #[test]
    fn rounds_of_spin_add_up_across_waits_and_are_reported_at_each_multiple() {
        test_platform!(Kernel);
        Kernel::enable(100);
        (0..350).for_each(|_| Relax::<Enlightened<Kernel>>::relax());
        assert_eq!(Kernel::counts(), SpinCounts { iterations: 350, notifications: 3 });
        let told: Vec<_> = Kernel::calls().iter().map(|call| call.registers.general[0]).collect();
        assert_eq!(told, [100, 100, 100]);
    }

    #[test]
    fn plain_and_bare_rounds_of_spin_never_notify() {
        test_platform!(Kernel);
        Kernel::enable(1);
        (0..50).for_each(|_| Relax::<Plain<Kernel>>::relax());
        (0..50).for_each(|_| Relax::<Bare>::relax());
        assert_eq!(Kernel::counts(), SpinCounts { iterations: 50, notifications: 0 });
    }

    #[test]
    fn rounds_of_spin_do_not_lengthen_the_waits_of_other_locks() {
        test_platform!(Kernel);
        Kernel::enable(100);
        (0..99).for_each(|_| Relax::<Enlightened<Kernel>>::relax());
        wait::<Enlightened<Kernel>>(99);
        assert_eq!(Kernel::counts(), SpinCounts { iterations: 198, notifications: 0 });
    }
}

proptest! {
    #[test]
    fn notifications_are_the_quotients_of_the_waits(
        threshold in 1_u32..500,
        waits in proptest::collection::vec(0_u32..2000, 0..20),
    ) {
        test_platform!(Kernel);
        Kernel::enable(threshold);
        let before = (Kernel::counts(), Kernel::calls().len());
        waits.iter().for_each(|&rounds| wait::<Enlightened<Kernel>>(rounds));
        let counts = Kernel::counts().since(before.0);
        prop_assert_eq!(counts.iterations, waits.iter().map(|&n| u64::from(n)).sum::<u64>());
        prop_assert_eq!(counts.notifications, waits.iter().map(|n| u64::from(n / threshold)).sum::<u64>());
        prop_assert_eq!(counts.notifications, (Kernel::calls().len() - before.1) as u64);
    }

    #[test]
    fn any_status_at_all_is_survived(status: u16, upper: u64) {
        test_platform!(Kernel);
        Kernel::enable(5);
        CPU.on_call(move |_| upper << 16 | u64::from(status));
        let calls = Kernel::calls().len();
        wait::<Enlightened<Kernel>>(20);
        prop_assert_eq!(Kernel::calls().len() - calls, if status == 0 { 4 } else { 1 });
    }
}
