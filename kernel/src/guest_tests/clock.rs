//! Time advances, and nowhere backwards, whatever its source.

use super::each_vp::on_each_vp;
use super::{TestResult, check, guest_test};
use crate::machine::{clock, cpu};

guest_test!(time_advances, time_never_goes_backwards_on_a_processor);

fn time_advances() -> TestResult {
    let begin = clock::now_100ns();
    let advanced = (0..100_000_000).any(|_| {
        cpu::pause();
        clock::now_100ns() > begin
    });
    check!(advanced, "it stands at {begin}");
    Ok(())
}

fn time_never_goes_backwards_on_a_processor() -> TestResult {
    let backwards = on_each_vp(|_| {
        let mut last = 0;
        let went_back = |_: &u32| {
            let now = clock::now_100ns();
            core::mem::replace(&mut last, now) > now
        };
        (0..1000).filter(went_back).count() as u64
    });
    check!(backwards.iter().all(|&count| count == 0), "times by processor: {backwards:?}");
    Ok(())
}
