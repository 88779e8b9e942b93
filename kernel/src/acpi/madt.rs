//! The Multiple APIC Description Table (ACPI 6.5 §5.2.12).

use super::AcpiError;
use super::interrupts::Interrupts;
use crate::MAX_VPS;
use crate::fixed::List;
use crate::phys::{PhysMemory, le32, le64};

/// Bytes before the first entry.
const ENTRIES: u64 = 44;
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const INTERRUPT_SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_ADDRESS_OVERRIDE: u8 = 5;
const LOCAL_X2APIC: u8 = 9;
const FLAG_ENABLED: u32 = 1;
/// MADT flag `PCAT_COMPAT`: the machine also has a pair of 8259s.
const FLAG_PC_AT: u32 = 1;

/// One enabled processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Processor {
    /// Its local APIC's identifier.
    pub apic_id: u32,
}

/// What the MADT says.
#[derive(Debug, Clone, Copy)]
pub struct Processors {
    /// The first [`MAX_VPS`] enabled processors, each identifier once.
    pub enabled: List<Processor, MAX_VPS>,
    /// Enabled processors beyond those.
    pub too_many: u32,
    /// Processors that are not enabled: absent, or to be plugged in later.
    pub disabled: u32,
    /// Where the local APICs' registers lie in memory.
    pub apic_address: u64,
    /// Whether there is a pair of 8259s to silence.
    pub has_8259: bool,
    /// Where devices' interrupts arrive.
    pub interrupts: Interrupts,
}

impl Processors {
    fn add(&mut self, apic_id: u32, flags: u32) {
        // 0xFF and 0xFFFF_FFFF address all APICs at once: no processor has them.
        if flags & FLAG_ENABLED == 0 || apic_id == u32::MAX {
            self.disabled += 1;
        } else if self.enabled.iter().all(|known| known.apic_id != apic_id) {
            let added = self.enabled.push(Processor { apic_id });
            self.too_many += u32::from(added.is_err());
        }
    }
}

/// Reads the table of `length` bytes at `address`; its header and checksum are right already.
pub(super) fn parse(
    memory: &impl PhysMemory,
    address: u64,
    length: u64,
) -> Result<Processors, AcpiError> {
    let bad = AcpiError::BadLength(*b"APIC");
    if length < ENTRIES {
        return Err(bad);
    }
    let head = memory.bytes::<8>(address + 36)?;
    let mut found = Processors {
        enabled: List::new(),
        too_many: 0,
        disabled: 0,
        apic_address: le32(&head, 0).into(),
        has_8259: le32(&head, 4) & FLAG_PC_AT != 0,
        interrupts: Interrupts::default(),
    };
    let mut offset = ENTRIES;
    while offset < length {
        if length - offset < 2 {
            return Err(bad);
        }
        let [kind, size] = memory.bytes::<2>(address + offset)?;
        if size < 2 || u64::from(size) > length - offset {
            return Err(bad);
        }
        let mut entry = [0; 16];
        let known = usize::from(size).min(entry.len());
        memory.read(address + offset, &mut entry[..known])?;
        read_entry(&mut found, kind, &entry[..known]).ok_or(bad)?;
        offset += u64::from(size);
    }
    if found.enabled.is_empty() {
        return Err(AcpiError::NoProcessors);
    }
    Ok(found)
}

/// Takes in one entry; `None` if it is too short for its kind. Kinds of no interest are passed over.
fn read_entry(found: &mut Processors, kind: u8, entry: &[u8]) -> Option<()> {
    match kind {
        LOCAL_APIC => {
            let entry = entry.first_chunk::<8>()?;
            let id = entry[3];
            found.add(if id == 0xFF { u32::MAX } else { id.into() }, le32(entry, 4));
        }
        IO_APIC => found.interrupts.add_io_apic(entry.first_chunk()?),
        INTERRUPT_SOURCE_OVERRIDE => found.interrupts.add_override(entry.first_chunk()?),
        LOCAL_X2APIC => {
            let entry = entry.first_chunk::<16>()?;
            found.add(le32(entry, 4), le32(entry, 8));
        }
        LOCAL_APIC_ADDRESS_OVERRIDE => {
            let entry = entry.first_chunk::<12>()?;
            found.apic_address = le64(entry, 4);
        }
        _ => {}
    }
    Some(())
}
