//! Telling the hypervisor why the kernel ends, for whoever looks after the virtual machine.

#![expect(unsafe_code, reason = "a page that the hypervisor reads")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_enlightenments::crash::{self, Crash};
use hv_enlightenments::{Gpa, HvPage};

use super::cpu::CPU;
use super::hyperv;

/// The message's page. Whoever takes [`TAKEN`] may write to it, once.
struct MessagePage(UnsafeCell<HvPage>);

// SAFETY: see [`TAKEN`].
unsafe impl Sync for MessagePage {}

static MESSAGE: MessagePage = MessagePage(UnsafeCell::new(HvPage::new()));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Tells the hypervisor, where it wants to know: the exit code that will follow, what else there is to know, and
/// the message, cut to a page.
pub(super) fn report(exit_code: u8, detail: [u64; 2], message: &str) {
    let Some(hv) = hyperv::interface() else { return };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: only the first to come here has the page.
    let page = unsafe { &mut *MESSAGE.0.get() };
    let length = message.len().min(page.0.len());
    page.0[..length].copy_from_slice(&message.as_bytes()[..length]);
    let gpa = Gpa((&raw const *page).addr() as u64);
    let [first, second] = detail;
    let crash = Crash {
        parameters: [exit_code.into(), first, second],
        message: Some((gpa, length as u64)),
    };
    // SAFETY: the kernel ends after this, and nobody writes to the page any more.
    unsafe { crash::report(&CPU, hv, &crash) };
}
