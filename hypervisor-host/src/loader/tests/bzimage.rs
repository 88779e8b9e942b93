//! bzImage headers, right and wrong.

use super::*;

fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = bzimage();
    patch(&mut image, offset, bytes);
    image
}

#[test]
fn a_good_image_is_entered_0x200_into_the_kernel() {
    let boot = load_image(&bzimage(), BootProtocolChoice::Auto);
    let expected = Boot::Linux64 { entry: 0x20_0200, boot_params: GuestAddress(0x7000) };
    assert_eq!(boot, Ok(expected));
    assert_eq!(load_image(&bzimage(), BootProtocolChoice::Linux64), Ok(expected));
}

#[test]
fn it_can_not_be_entered_by_pvh() {
    let error = load_image(&bzimage(), BootProtocolChoice::Pvh).unwrap_err();
    assert_eq!(error.problem, Problem::NoPvhEntry);
}

#[test]
fn wrong_magic_numbers_make_it_an_unknown_format() {
    assert_eq!(inspect_problem(&patched(0x1FE, &[0x55, 0xAB])), Problem::UnknownFormat);
    assert_eq!(inspect_problem(&patched(0x202, b"HdrT")), Problem::UnknownFormat);
    assert_eq!(inspect_problem(&[0x55; 0x1000]), Problem::UnknownFormat);
}

#[test]
fn each_wrong_field_is_refused() {
    let cases: [(usize, &[u8], Problem); 9] = [
        (0x206, &[0x0B, 0x02], Problem::BzImageTooOld(0x020B)),
        (0x236, &[0, 0], Problem::BzImageNot64Bit),
        (0x211, &[0], Problem::BzImageMalformed), // a zImage
        (0x201, &[0x61], Problem::BzImageMalformed), // header ends before init_size does
        (0x1F4, &[0, 0, 0, 0], Problem::BzImageTruncated), // no kernel
        (0x1F4, &[0x41, 0, 0, 0], Problem::BzImageTruncated),
        (0x1F1, &[2], Problem::BzImageTruncated),
        (0x258, &[0, 0, 0x0F, 0], Problem::BzImageMalformed), // below 1 MiB
        (0x258, &[1, 0, 0x20, 0], Problem::BzImageMalformed), // not page-aligned
    ];
    for (offset, bytes, problem) in cases {
        assert_eq!(inspect_problem(&patched(offset, bytes)), problem, "{offset:#x}");
    }
    let wraps = patched(0x258, &0xFFFF_FFFF_FFFF_F000u64.to_le_bytes());
    assert_eq!(inspect_problem(&wraps), Problem::BzImageMalformed);
}

#[test]
fn every_truncation_is_refused() {
    let image = bzimage();
    for length in 0..image.len() {
        let expected = match length {
            0 => Problem::Empty,
            1..0x206 => Problem::UnknownFormat,
            _ => Problem::BzImageTruncated,
        };
        assert_eq!(inspect_problem(&image[..length]), expected, "{length} bytes");
    }
}

#[test]
fn zero_setup_sectors_mean_four() {
    let mut image = bzimage();
    patch(&mut image, 0x1F1, &[0]);
    image.resize(0xA00 + 0x400, 0xB4);
    let memory = ram(4 * MIB);
    let boot =
        load(&memory, &inspect(kernel(&image)).unwrap(), None, "", RSDP, BootProtocolChoice::Auto);
    assert!(boot.is_ok());
    assert_eq!(read::<2>(&memory, 0x20_0000), [0xB4; 2]);
}

#[test]
fn the_kernel_and_the_memory_it_asks_for_must_fit_the_ram() {
    let image = bzimage();
    let inspected = inspect(kernel(&image)).unwrap();
    let load_into = |bytes| {
        load(&ram(bytes), &inspected, None, "", RSDP, BootProtocolChoice::Auto)
            .map_err(|error| error.problem)
    };
    let problem =
        Problem::KernelTooBig { start: 0x20_0000, end: 0x30_0000, ram_bytes: 3 * MIB - 4096 };
    assert_eq!(load_into(3 * MIB - 4096), Err(problem));
    assert!(load_into(3 * MIB).is_ok());
}

#[test]
fn a_kernel_that_prefers_memory_above_4_gib_is_out_of_reach() {
    let image = patched(0x258, &0x1_0000_0000u64.to_le_bytes());
    let error = load_image(&image, BootProtocolChoice::Auto).unwrap_err();
    assert_eq!(error.problem, Problem::EntryTooHigh { entry: 0x1_0000_0200 });
}

#[test]
fn a_kernel_too_short_for_its_entry_is_refused() {
    let mut image = bzimage();
    patch(&mut image, 0x1F4, &[0x20, 0, 0, 0]); // 0x200 bytes
    image.truncate(0x600);
    let error = load_image(&image, BootProtocolChoice::Auto).unwrap_err();
    assert_eq!(error.problem, Problem::EntryNotExecutable { entry: 0x20_0200 });
}
