//! Where the ring gets its atomics from: `core`, or loom's models of them under `--cfg loom`.

#![cfg_attr(
    all(target_arch = "x86_64", not(any(loom, miri))),
    expect(unsafe_code, reason = "the cheaper barrier is an instruction")
)]

#[cfg(not(loom))]
pub(crate) use core::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

/// Orders everything before it with everything behind it, stores before loads too.
#[cfg(any(loom, miri, not(target_arch = "x86_64")))]
pub(crate) fn full_barrier() {
    atomic::fence(atomic::Ordering::SeqCst);
}

/// Orders everything before it with everything behind it, stores before loads too.
///
/// Any locked instruction does, for memory that is cached (Intel SDM, volume 3, §9.2.3.9); `mfence`, as which a fence would be
/// compiled, costs several times as much. Linux's `smp_mb` is the same.
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
#[inline]
pub(crate) fn full_barrier() {
    let mut word = 0u32;
    // SAFETY: changes a word of our own, to what it was.
    unsafe {
        core::arch::asm!(
            "lock or dword ptr [{word}], 0",
            word = in(reg) &raw mut word,
            options(nostack),
        );
    }
}
