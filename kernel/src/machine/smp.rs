//! Starting the other processors by INIT and start-up interrupts (Intel SDM vol. 3 §9.4).

#![expect(unsafe_code, reason = "entry point of the other processors")]

use core::sync::atomic::Ordering;

use kernel::memory_map::Range;

use super::{apic, boot, clock, cpu, interrupts, jobs, remap, shootdown, trampoline, vp};

/// A start-up interrupt may be lost, and one to a processor that runs is ignored: repeat it this often.
const REPEAT_100NS: u64 = 500_000;
/// No processor has started for this long: the rest never will.
const LIMIT_100NS: u64 = 100_000_000;

/// Starts all processors that have blocks, code at `page`; returns when each runs or is given up.
pub(crate) fn start_others(page: u64) {
    let others = || (1..).map_while(vp::get);
    for vp in others() {
        trampoline::admit(
            vp.index as usize,
            vp.apic_id,
            vp.stacks.range(super::stacks::Stack::Main).end,
        );
    }
    for vp in others() {
        apic::send_init(vp.apic_id);
    }
    let mut waiting = others().count();
    let mut since = clock::now_100ns();
    let mut sent = None;
    while waiting != 0 {
        let now = clock::now_100ns();
        if sent.is_none_or(|sent| now.saturating_sub(sent) > REPEAT_100NS) {
            sent = Some(now);
            others().filter(|vp| !trampoline::has_started(vp.index as usize)).for_each(|vp| {
                apic::send_startup(vp.apic_id, page);
            });
        }
        for _ in 0..1000 {
            cpu::pause();
        }
        let still = others().filter(|vp| !trampoline::has_started(vp.index as usize)).count();
        if still != waiting {
            (waiting, since) = (still, now);
        } else if now.saturating_sub(since) > LIMIT_100NS {
            break;
        }
    }
    others().for_each(settle);
    if others().all(|vp| vp.online.load(Ordering::Acquire)) {
        forget(page);
    }
}

/// Takes the start-up code away, now that no processor can come to it any more.
fn forget(page: u64) {
    if let Err(error) = remap::unmap(Range::new(page, kernel::PAGE_SIZE)) {
        log::debug!("the start-up code at {page:#x} stays: {error:?}");
    }
}

/// Waits for a processor that has started, or gives it up.
fn settle(vp: &'static vp::Vp) {
    if trampoline::give_up(vp.index as usize) {
        log::error!(
            "vp{} (APIC {:#x}) did not start within {} s; going on without it",
            vp.index,
            vp.apic_id,
            LIMIT_100NS / 10_000_000
        );
    } else {
        jobs::wait_until(|| vp.online.load(Ordering::Acquire));
    }
}

/// Where the other processors arrive, each on its own stack.
#[unsafe(no_mangle)]
extern "C" fn enl_processor_main(index: u32) -> ! {
    let Some(vp) = vp::get(index as usize) else { cpu::stop() };
    // SAFETY: the block with this processor's APIC identifier, on its stack.
    unsafe { vp.adopt() };
    interrupts::install();
    apic::enable();
    x86_64::instructions::interrupts::enable();
    boot::init_processor();
    vp.online.store(true, Ordering::SeqCst);
    shootdown::begin();
    if let Some(boot) = vp::get(0) {
        jobs::wake(boot);
    }
    jobs::idle()
}
