//! What the guest and the hypervisor share about the local APIC: the VP assist page's first field.

/// Offset in the VP assist page of the 32-bit EOI assist field (TLFS *EOI Assist*, *Virtual Processor Assist Page*).
pub const HV_VP_ASSIST_APIC_ASSIST_OFFSET: usize = 0;
/// *No EOI required*: the interrupt in service ends by clearing this bit (TLFS *EOI Assist*).
pub const HV_APIC_ASSIST_NO_EOI_REQUIRED: u32 = 1 << 0;
/// Bytes of the page that `HV_VP_ASSIST_PAGE` gives a meaning to on x64 (Linux, `struct hv_vp_assist_page`).
pub const HV_VP_ASSIST_PAGE_BYTES: usize = 56;
