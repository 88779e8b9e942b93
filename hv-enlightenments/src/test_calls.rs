//! What the tests of the calls share: an enabled hypercall page on a fake processor, and what lies in a buffer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use hv_abi::cpuid::{Features, HV_CPUID_ENLIGHTENMENT_INFO, Privileges, Recommendations};

use crate::cpu::CpuidResult;
use crate::cpu::fake::{FakeCall, FakeCpu};
use crate::hypercall::CallBuffer;
use crate::{Gpa, GuestOsId, HvPage, HyperV, HypercallPage, MappedPage};

pub(crate) type Calls = HypercallPage<&'static FakeCpu>;

/// Where [`buffer`]s lie, for the hypervisor.
pub(crate) const BUFFER_GPA: u64 = 0x9000;

/// A processor whose hypervisor offers `features` and recommends `recommendations`, with an enabled page.
pub(crate) fn enabled(
    features: Features,
    recommendations: Recommendations,
) -> (&'static FakeCpu, HyperV, Calls) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(Privileges::HYPERCALL, features, 0);
    let leaf = CpuidResult { eax: recommendations.bits(), ..CpuidResult::default() };
    cpu.set_leaf(HV_CPUID_ENLIGHTENMENT_INFO, leaf);
    let hv = HyperV::detect(cpu).unwrap();
    let page = page_at(Gpa(0x5000));
    // SAFETY: the fake never runs the page.
    let calls = unsafe { HypercallPage::enable(cpu, &hv, GuestOsId::open_source(1, 2), &page) };
    (cpu, hv, calls.unwrap())
}

fn page_at(gpa: Gpa) -> MappedPage {
    let page = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: the page is leaked to the value; nothing reaches it by its made-up physical address.
    unsafe { MappedPage::new(page, gpa) }.unwrap()
}

pub(crate) fn buffer() -> CallBuffer {
    CallBuffer::new(page_at(Gpa(BUFFER_GPA)))
}

/// The first `count` 8-byte words of the page behind a buffer.
pub(crate) fn words(buffer: &CallBuffer, count: usize) -> Vec<u64> {
    let mut bytes = alloc::vec![0; count * 8];
    buffer.page().read(0, &mut bytes).unwrap();
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// The registers of a call in memory order.
pub(crate) fn registers(call: &FakeCall) -> Vec<u64> {
    let xmm = call.registers.xmm.as_flattened();
    call.registers.general.iter().chain(xmm).copied().collect()
}
