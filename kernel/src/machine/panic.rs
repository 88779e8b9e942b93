//! A panic ends the virtual machine, after telling why and from where.

use core::fmt::Write;
use core::panic::PanicInfo;

use kernel::fixed::Text;

use super::console::{self, println};
use super::{crash, exit, fault, vp, watchdog};

/// Longest message in the event.
const MESSAGE_BYTES: usize = 512;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if fault::is_dying() {
        // The report of a failure has failed: the end is all that is left.
        console::seize();
        println!("panic while a failure was reported");
        exit::exit(exit::PANIC);
    }
    watchdog::take_panic(info);
    fault::stop_others();
    let mut message = Text::<MESSAGE_BYTES>::new();
    // What does not fit is left out.
    let _ = write!(message, "{}", info.message());
    if let Some(at) = info.location() {
        println!("panic on vp{} at {}:{}: {message}", vp::current_index(), at.file(), at.line());
    }
    println!("backtrace:");
    fault::print_callers(fault::frame_pointer());
    console::event("panic", |event| event.str("message", message.as_str()).end());
    crash::report(exit::PANIC, [vp::current_index().into(), 0], message.as_str());
    exit::exit(exit::PANIC)
}
