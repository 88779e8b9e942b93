//! Copies between shared memory and memory of our own, while somebody may write to the shared one.
//!
//! To the compiler, such a copy by `memcpy` would be a data race. So the accesses are instructions that it does not look into,
//! or atomics where there are no such instructions. Either way each byte of ours is written from exactly one read of the
//! shared one that counts.
//!
//! A string instruction's stores come before those of every later instruction (Intel SDM, volume 3, §9.2.4 "Fast-String
//! Operation and Out-of-Order Stores"), so an index that is stored with release after it says no more than is true.

#![expect(unsafe_code, reason = "reads and writes memory that others write at the same time")]

#[cfg(all(target_arch = "x86_64", not(miri)))]
use instructions as way;
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use portable as way;

/// Copies from `shared` into `bytes`.
///
/// # Safety
///
/// As many bytes from `shared` on can be read, and no reference of ours that is not to atomics covers them.
#[inline]
pub unsafe fn load(shared: *const u8, bytes: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe { way::load(shared, bytes) }
}

/// Copies `bytes` to `shared`.
///
/// # Safety
///
/// As many bytes from `shared` on can be written, and no reference of ours that is not to atomics covers them.
#[inline]
pub unsafe fn store(shared: *mut u8, bytes: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { way::store(shared, bytes) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod instructions {
    use core::arch::asm;

    /// From how many bytes on the string instruction is faster than pieces: it needs a while to start.
    const STRING_BYTES: usize = 1024;
    const WORD: usize = size_of::<u64>();
    /// Four vector registers.
    #[cfg(target_feature = "sse2")]
    const BLOCK: usize = 64;

    /// Copies from `shared` into `bytes`.
    ///
    /// # Safety
    ///
    /// As many bytes from `shared` on can be read, and no reference of ours that is not to atomics covers them.
    #[inline]
    pub(super) unsafe fn load(shared: *const u8, bytes: &mut [u8]) {
        // SAFETY: `bytes` is ours, the rest the caller promises.
        unsafe { copy(shared, bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Copies `bytes` to `shared`.
    ///
    /// # Safety
    ///
    /// As many bytes from `shared` on can be written, and no reference of ours that is not to atomics covers them.
    #[inline]
    pub(super) unsafe fn store(shared: *mut u8, bytes: &[u8]) {
        // SAFETY: `bytes` is ours, the rest the caller promises.
        unsafe { copy(bytes.as_ptr(), shared, bytes.len()) }
    }

    #[inline]
    unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
        if length >= STRING_BYTES {
            // SAFETY: the caller's promise.
            unsafe { copy_string(from, to, length) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { copy_pieces(from, to, length) }
        }
    }

    /// Copies `length` bytes in pieces, the largest first.
    #[inline]
    unsafe fn copy_pieces(from: *const u8, to: *mut u8, length: usize) {
        let mut done = 0;
        #[cfg(target_feature = "sse2")]
        while length - done >= BLOCK {
            // SAFETY: `done + BLOCK <= length`.
            unsafe { copy_block(from.wrapping_add(done), to.wrapping_add(done)) }
            done += BLOCK;
        }
        while length - done >= WORD {
            // SAFETY: `done + WORD <= length`.
            unsafe { copy_word(from.wrapping_add(done), to.wrapping_add(done)) }
            done += WORD;
        }
        while done < length {
            // SAFETY: `done < length`.
            unsafe { copy_byte(from.wrapping_add(done), to.wrapping_add(done)) }
            done += 1;
        }
    }

    /// Not where the processor's vector registers are not the program's to use.
    #[cfg(target_feature = "sse2")]
    #[inline]
    unsafe fn copy_block(from: *const u8, to: *mut u8) {
        // SAFETY: moves 64 bytes that the caller promises, through registers.
        unsafe {
            asm!(
                "movups {a}, xmmword ptr [{from}]",
                "movups {b}, xmmword ptr [{from} + 16]",
                "movups {c}, xmmword ptr [{from} + 32]",
                "movups {d}, xmmword ptr [{from} + 48]",
                "movups xmmword ptr [{to}], {a}",
                "movups xmmword ptr [{to} + 16], {b}",
                "movups xmmword ptr [{to} + 32], {c}",
                "movups xmmword ptr [{to} + 48], {d}",
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline]
    unsafe fn copy_word(from: *const u8, to: *mut u8) {
        // SAFETY: moves eight bytes that the caller promises, through a register.
        unsafe {
            asm!(
                "mov {word}, qword ptr [{from}]",
                "mov qword ptr [{to}], {word}",
                word = out(reg) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline]
    unsafe fn copy_byte(from: *const u8, to: *mut u8) {
        // SAFETY: moves one byte that the caller promises, through a register.
        unsafe {
            asm!(
                "mov {byte}, byte ptr [{from}]",
                "mov byte ptr [{to}], {byte}",
                byte = out(reg_byte) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline]
    unsafe fn copy_string(from: *const u8, to: *mut u8, length: usize) {
        // SAFETY: moves `length` bytes that the caller promises; the direction flag is clear on entry to any assembly.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") length => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(miri)))))]
mod portable {
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Copies from `shared` into `bytes`.
    ///
    /// # Safety
    ///
    /// As many bytes from `shared` on can be read, and no reference of ours that is not to atomics covers them.
    #[cfg_attr(all(target_arch = "x86_64", not(miri)), expect(dead_code, reason = "only tested"))]
    pub(super) unsafe fn load(shared: *const u8, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            let shared = shared.wrapping_add(index).cast_mut();
            // SAFETY: the caller's promise.
            *byte = unsafe { AtomicU8::from_ptr(shared) }.load(Ordering::Relaxed);
        }
    }

    /// Copies `bytes` to `shared`.
    ///
    /// # Safety
    ///
    /// As many bytes from `shared` on can be written, and no reference of ours that is not to atomics covers them.
    #[cfg_attr(all(target_arch = "x86_64", not(miri)), expect(dead_code, reason = "only tested"))]
    pub(super) unsafe fn store(shared: *mut u8, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let shared = shared.wrapping_add(index);
            // SAFETY: the caller's promise.
            unsafe { AtomicU8::from_ptr(shared) }.store(*byte, Ordering::Relaxed);
        }
    }
}
