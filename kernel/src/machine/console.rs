//! The console: our host's bulk console where offered, else a UART.
//!
//! A line is put together in a buffer and printed as a whole, so that lines from several processors don't mix
//! and, on our host, cost one exit each.

#![expect(unsafe_code, reason = "port I/O")]

use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use kernel::event::Object;
use spin::mutex::SpinMutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::interrupts;

use super::cpu;

const COM1: u16 = 0x3F8;
/// Bytes that are collected before they are printed in any case.
const BUFFER_BYTES: usize = 4096 - 4;
/// Attempts to take the console before a dying kernel prints without it.
const IMPATIENCE: u32 = 5_000_000;

/// [`hv_abi::host::ConsoleBuffer`] and the text behind it.
#[repr(C)]
struct Buffer {
    length: u32,
    text: [u8; BUFFER_BYTES],
}

enum Output {
    /// Nothing to print on.
    None,
    Uart(Uart16550<PioBackend>),
    /// The port that takes a buffer's address.
    Host(u16),
}

struct Console {
    buffer: Buffer,
    output: Output,
}

static CONSOLE: SpinMutex<Console> = SpinMutex::new(Console {
    buffer: Buffer { length: 0, text: [0; BUFFER_BYTES] },
    output: Output::None,
});
static EVENTS: AtomicBool = AtomicBool::new(false);

/// Prints on COM1, if there is one.
pub(crate) fn use_uart() {
    // SAFETY: COM1 is at its customary address, or nothing answers there, which `init` notices; the kernel
    // has no other driver for it.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(COM1) }) else { return };
    if uart.init(Config::default()).is_ok() {
        CONSOLE.lock().output = Output::Uart(uart);
        // Firmware may have left its last line unfinished; ours begin a line.
        print(format_args!("\n"));
    }
}

/// Prints through the host's console `port`.
pub(crate) fn use_host(port: u16) {
    CONSOLE.lock().output = Output::Host(port);
}

/// Also prints `@enl` lines from now on.
pub(crate) fn enable_events() {
    EVENTS.store(true, Ordering::Relaxed);
}

/// Whether `@enl` lines are printed.
pub(crate) fn has_events() -> bool {
    EVENTS.load(Ordering::Relaxed)
}

/// Has the host at `port` print the buffer.
fn lend(port: u16, buffer: &Buffer) {
    // Virtual is physical, and the whole image lies below 4 GiB.
    let address = core::ptr::from_ref(buffer).expose_provenance() as u32;
    // SAFETY: the host reads the buffer before the instruction ends. It is not `nomem` as in `Port::write`: the
    // compiler must have written the text by then, and not yet emptied the buffer.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") address, options(nostack, preserves_flags));
    }
}

impl Console {
    fn flush(&mut self) {
        let text = &self.buffer.text[..self.buffer.length as usize];
        match &mut self.output {
            Output::None => {}
            Output::Uart(uart) => uart.send_bytes_exact(text),
            Output::Host(port) => lend(*port, &self.buffer),
        }
        self.buffer.length = 0;
    }

    fn push(&mut self, byte: u8) {
        if self.buffer.length as usize == BUFFER_BYTES {
            self.flush();
        }
        self.buffer.text[self.buffer.length as usize] = byte;
        self.buffer.length += 1;
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.push(b'\r');
            }
            self.push(byte);
        }
        Ok(())
    }
}

/// Runs `write` on the console with interrupts off, then prints what it wrote.
fn with(write: impl FnOnce(&mut Console)) {
    interrupts::without_interrupts(|| {
        let mut console = CONSOLE.lock();
        write(&mut console);
        console.flush();
    });
}

/// Prints text, as it is.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    with(|console| {
        let _ = console.write_fmt(text);
    });
}

/// Prints an event line that `fill` completes, if events are wanted.
pub(crate) fn event(name: &str, fill: impl FnOnce(Object<'_, dyn Write>) -> fmt::Result) {
    if EVENTS.load(Ordering::Relaxed) {
        with(|console| {
            let _ = fill(Object::event(console as &mut dyn Write, name));
            let _ = console.write_str("\n");
        });
    }
}

/// Prints the last event.
pub(crate) fn end_event(code: u8) {
    event("end", |event| event.number("code", code.into()).end());
}

/// Whether some processor prints at the moment.
pub(crate) fn is_locked() -> bool {
    CONSOLE.is_locked()
}

/// For a dying kernel: makes sure that the console can be taken, by force if whoever holds it does not let go.
pub(crate) fn seize() {
    for _ in 0..IMPATIENCE {
        if !CONSOLE.is_locked() {
            return;
        }
        cpu::pause();
    }
    // SAFETY: the holder has died, perhaps on this very processor, or is as good as dead; a garbled line is
    // better than none.
    unsafe { CONSOLE.force_unlock() };
}

/// Prints a line.
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::machine::console::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}
pub(crate) use println;
