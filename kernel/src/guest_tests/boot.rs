//! What the boot protocol told.

use kernel::PAGE_SIZE;
use kernel::cmdline;
use kernel::memory_map::Range;

use super::{Problem, TestResult, check, guest_test};
use crate::machine::boot::{Machine, machine};
use crate::machine::{apic, memory};

guest_test!(
    memory_map_is_sane,
    image_lies_in_usable_memory,
    image_is_smaller_than_4_mib,
    command_line_is_still_there,
    boot_processor_is_in_the_madt,
);

pub(super) fn the_machine() -> Result<&'static Machine, Problem> {
    machine().ok_or(Problem::Fail("there is no record of the boot".into()))
}

fn memory_map_is_sane() -> TestResult {
    let machine = the_machine()?;
    let usable =
        machine.info.memory.usable().map_err(|_| Problem::Fail("too many pieces".into()))?;
    check!(machine.usable_bytes >= 8 << 20, "only {} bytes are usable", machine.usable_bytes);
    check!(usable.iter().all(|range| range.start < range.end), "a range is empty");
    check!(usable.windows(2).all(|pair| pair[0].end < pair[1].start), "ranges overlap");
    let aligned = |range: &Range| (range.start | range.end).is_multiple_of(PAGE_SIZE);
    check!(usable.iter().all(aligned), "a range has part of a page");
    Ok(())
}

fn image_lies_in_usable_memory() -> TestResult {
    let machine = the_machine()?;
    let usable =
        machine.info.memory.usable().map_err(|_| Problem::Fail("too many pieces".into()))?;
    let image = memory::image();
    let inside = |range: &&Range| range.start <= image.start && image.end <= range.end;
    check!(usable.iter().find(inside).is_some(), "no usable range contains {image:x?}");
    Ok(())
}

fn image_is_smaller_than_4_mib() -> TestResult {
    if cfg!(debug_assertions) {
        super::skip!("this image was built without optimization");
    }
    let bytes = memory::image().len();
    check!(bytes < 4 << 20, "the image takes {bytes} bytes of memory");
    Ok(())
}

fn command_line_is_still_there() -> TestResult {
    let machine = the_machine()?;
    let again = cmdline::parse(machine.info.command_line.as_str());
    check!(again == Ok(machine.options), "it now reads {:?}", machine.info.command_line);
    Ok(())
}

fn boot_processor_is_in_the_madt() -> TestResult {
    let Some(processors) = &the_machine()?.processors else {
        super::skip!("there is no MADT");
    };
    let id = apic::id();
    let known = processors.enabled.iter().any(|processor| processor.apic_id == id);
    check!(known, "the boot processor's APIC identifier {id:#x} is not in the MADT");
    Ok(())
}
