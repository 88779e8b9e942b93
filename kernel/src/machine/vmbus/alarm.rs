//! Tasks that are woken at a time.
//!
//! The drivers set a time limit with each request, and hardly ever reach it. So only the earliest deadline has a timer:
//! setting a later one costs no register, and whoever is woken too early asks again.

use alloc::vec::Vec;
use core::task::Waker;

use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::machine::timer;

/// A task's deadline.
struct Alarm {
    /// [`NEVER`] once it has rung: its place may go to another.
    deadline_100ns: u64,
    waker: Waker,
}

const NEVER: u64 = u64::MAX;

struct Alarms {
    all: Vec<Alarm>,
    /// When the timer rings; [`NEVER`] if there is none.
    armed_100ns: u64,
}

static ALARMS: SpinMutex<Alarms> = SpinMutex::new(Alarms { all: Vec::new(), armed_100ns: NEVER });

/// Has `waker` woken once the clock has reached `deadline_100ns`, or before.
pub(super) fn set(deadline_100ns: u64, waker: &Waker) {
    without_interrupts(|| {
        let mut alarms = ALARMS.lock();
        let known = alarms.all.iter_mut().find(|alarm| alarm.waker.will_wake(waker));
        match known {
            Some(alarm) => alarm.deadline_100ns = alarm.deadline_100ns.min(deadline_100ns),
            None => add(&mut alarms.all, Alarm { deadline_100ns, waker: waker.clone() }),
        }
        arm(&mut alarms);
    });
}

fn add(all: &mut Vec<Alarm>, new: Alarm) {
    match all.iter_mut().find(|alarm| alarm.deadline_100ns == NEVER) {
        Some(place) => *place = new,
        None => all.push(new),
    }
}

/// Sees to it that the timer rings no later than the earliest deadline.
fn arm(alarms: &mut Alarms) {
    let earliest = alarms.all.iter().map(|alarm| alarm.deadline_100ns).min().unwrap_or(NEVER);
    if earliest < alarms.armed_100ns {
        // An older timer stays: when it rings for nothing, it sees that.
        if timer::at(earliest, ring, 0).is_ok() {
            alarms.armed_100ns = earliest;
        } else {
            log::warn!("no timer for a driver's time limit");
        }
    }
}

/// In the timer's interrupt.
fn ring(_: usize) {
    let now = crate::machine::clock::now_100ns();
    let mut alarms = ALARMS.lock();
    alarms.armed_100ns = NEVER;
    for alarm in alarms.all.iter_mut().filter(|alarm| alarm.deadline_100ns <= now) {
        alarm.deadline_100ns = NEVER;
        alarm.waker.wake_by_ref();
    }
    arm(&mut alarms);
}
