//! What our wrapper of a hypercall costs, in instructions, beside the least that the call itself takes.
//!
//! A child process makes fast calls through a page that stands for the hypervisor's, and is stopped after each
//! instruction. *The bare sequence* is assembly by hand: input value to RCX, parameters to RDX and R8, call,
//! the page, a look at the status, a branch on it. In the page, one instruction stands for the one that exits to the
//! hypervisor and one returns, as in the pages of Hyper-V and KVM; what the hypervisor does is not counted, so
//! this is the least favourable denominator there is.

#![cfg(all(target_os = "linux", target_arch = "x86_64", not(loom)))]
#![expect(unsafe_code, reason = "maps and runs a page of code, assembly")]

mod support;

use core::arch::asm;
use core::hint::black_box;
use core::ptr::NonNull;
use std::sync::OnceLock;

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::hypercall::HV_CALL_NOTIFY_LONG_SPIN_WAIT;
use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::spin_wait::LongSpinNotifier;
use hv_enlightenments::{Gpa, GuestOsId, HyperV, HypercallPage, MappedPage};

use self::support::steps::instructions;
use self::support::user_cpu::UserCpu;

/// `xor eax, eax` for the instruction that exits and comes back with a result, `ret`.
const PAGE_CODE: [u8; 3] = [0x31, 0xC0, 0xC3];

static FAKE: FakeCpu = FakeCpu::new();
static PAGE: OnceLock<HypercallPage<UserCpu>> = OnceLock::new();
static NOTIFIER: LongSpinNotifier<UserCpu> = LongSpinNotifier::new(UserCpu::new(&FAKE));

fn page() -> &'static HypercallPage<UserCpu> {
    PAGE.get_or_init(|| {
        FAKE.with_hyperv(Privileges::HYPERCALL, Features::empty(), 100);
        let cpu = UserCpu::new(&FAKE);
        let hv = HyperV::detect(&cpu).expect("the fake has the interface");
        // SAFETY: the page is executable and stays; only calls like these are made through it.
        let page = unsafe {
            HypercallPage::enable(cpu, &hv, GuestOsId::open_source(0, 0), &executable_page())
        };
        let page = page.expect("the fake takes the page");
        NOTIFIER.enable(&page, hv.spin_threshold());
        page
    })
}

fn executable_page() -> MappedPage {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let address = unsafe { libc::mmap(core::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert!(address != libc::MAP_FAILED, "no executable memory");
    let address = NonNull::new(address.cast::<u8>()).expect("mapped at 0");
    // SAFETY: the mapping is longer and nobody else's.
    unsafe { address.cast::<[u8; 3]>().write(PAGE_CODE) };
    // SAFETY: mapped above, for good; the address is never used as a physical one.
    unsafe { MappedPage::new(address, Gpa(0x1000)) }.expect("mappings are page-aligned")
}

const FEW: u32 = 8;
const MANY: u32 = 16;

/// `rounds` calls by hand: the least that makes them and looks at their results.
fn bare<const ROUNDS: u32>() {
    let (page, rounds) = (black_box(page()).entry(), black_box(ROUNDS));
    let failed: u32;
    // RSI and R12 to R15, which the call preserves by convention.
    // SAFETY: the page changes RAX only; the registers it may change by convention are clobbered.
    unsafe {
        asm!(
            "xor r12d, r12d",
            "2:",
            "mov ecx, {input}",
            "mov rdx, r14",
            "mov r8, r15",
            "call rsi",
            "test ax, ax",
            "jne 3f",
            "dec r13d",
            "jne 2b",
            "jmp 4f",
            "3:",
            "inc r12d",
            "4:",
            input = const HV_CALL_NOTIFY_LONG_SPIN_WAIT as u32 | 1 << 16,
            in("rsi") page.as_ptr(),
            in("r14") black_box(4095_u64),
            in("r15") black_box(0_u64),
            inout("r13") rounds => _,
            out("r12") failed,
            clobber_abi("win64"),
        );
    }
    assert!(failed == 0);
}

/// The same by the wrapper.
fn wrapped<const ROUNDS: u32>() {
    let page = *black_box(page());
    let (first, second) = (black_box(4095), black_box(0));
    let mut rounds = black_box(ROUNDS);
    loop {
        // SAFETY: the page returns at once.
        if unsafe { page.fast(HV_CALL_NOTIFY_LONG_SPIN_WAIT, first, second) }.is_err() {
            panic!("the call failed");
        }
        // Without the check for overflow, which the bare loop has not.
        rounds = rounds.wrapping_sub(1);
        if rounds == 0 {
            break;
        }
    }
}

/// The same by what locks call: whether and how to tell may change at any time, so both are looked up each time.
fn notified<const ROUNDS: u32>() {
    page();
    let notifier = black_box(&NOTIFIER);
    let waited = black_box(4095);
    let mut rounds = black_box(ROUNDS);
    loop {
        if !notifier.notify(waited) {
            panic!("the call was not made");
        }
        rounds = rounds.wrapping_sub(1);
        if rounds == 0 {
            break;
        }
    }
}

/// Instructions of one call; `None` where tracing is not allowed.
fn each(name: &str, few: fn(), many: fn()) -> Option<u32> {
    // The page is mapped before the child is made, and takes no steps there.
    page();
    let few = instructions(few)?;
    let more = instructions(many)? - few;
    assert!(more.is_multiple_of(MANY - FEW), "{name}: {more} instructions for {FEW} more calls");
    let each = more / (MANY - FEW);
    println!("{name}: {each} instructions a call, the loop included");
    Some(each)
}

/// What a loop around a call takes: counting and branching back.
const LOOP: u32 = 2;

#[test]
fn the_wrapper_costs_at_most_five_per_cent_more_instructions_than_the_bare_call() {
    let bare = each("bare", bare::<FEW>, bare::<MANY>);
    let wrapped = each("wrapper", wrapped::<FEW>, wrapped::<MANY>);
    let (Some(bare), Some(wrapped)) = (bare, wrapped) else {
        println!("SKIP: tracing a child is not allowed here");
        return;
    };
    assert_eq!(bare, 8 + LOOP, "three registers, call, exit, return, test, branch");
    assert!((wrapped - LOOP) * 100 <= (bare - LOOP) * 105, "{wrapped} instead of {bare}");
}

#[test]
fn telling_of_a_long_wait_costs_a_look_at_threshold_and_page_more_than_the_call() {
    let bare = each("bare", bare::<FEW>, bare::<MANY>);
    let notified = each("notifier", notified::<FEW>, notified::<MANY>);
    if let (Some(bare), Some(notified)) = (bare, notified) {
        assert!(notified <= bare + 8, "{notified} instead of {bare}");
    }
}
