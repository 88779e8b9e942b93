//! What the compiler expects of a C library, and what the precompiled `core` expects of an unwinder.
//!
//! The functions use string instructions: a loop in Rust would be compiled into a call of itself.

#![expect(unsafe_code, reason = "symbols that the compiler calls by name")]

use core::arch::asm;

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= count {
        // SAFETY: the ranges overlap so that copying upwards is right, or not at all.
        return unsafe { memcpy(to, from, count) };
    }
    let (last_to, last_from) = (to.wrapping_add(count - 1), from.wrapping_add(count - 1));
    // SAFETY: the caller vouches for both ranges; the direction flag is clear again afterwards.
    unsafe {
        asm!("std", "rep movsb", "cld",
            inout("rcx") count => _, inout("rdi") last_to => _, inout("rsi") last_from => _,
            options(nostack));
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the caller vouches for the range.
        let a = unsafe { left.wrapping_add(index).read_volatile() };
        // SAFETY: the caller vouches for the range.
        let b = unsafe { right.wrapping_add(index).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the contracts are the same.
    unsafe { memcmp(left, right, count) }
}

/// Named by the landing pads in the precompiled `core`, which nothing jumps to: panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::exit::exit(super::exit::PANIC)
}
