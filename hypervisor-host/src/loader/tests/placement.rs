//! Where things end up in guest RAM.

use super::field::{P_MEMSZ, P_PADDR, PH};
use super::*;

#[test]
fn segments_lie_at_their_physical_addresses() {
    let memory = ram(4 * MIB);
    let image = inspect(kernel(&ELF)).unwrap();
    load(&memory, &image, None, "", RSDP, BootProtocolChoice::Auto).unwrap();
    let mut code = [0; 32];
    code[..16].copy_from_slice(&ELF[0x100..0x110]);
    assert_eq!(read(&memory, 0x10_0000), code);
    assert_eq!(read::<8>(&memory, 0x10_1000), ELF[0x110..0x118]);
    assert_eq!(read::<8>(&memory, 0x10_1008), [0; 8]);
}

#[test]
fn a_segment_must_lie_in_ram() {
    let outside = |address: u64, bytes: u64| {
        let image = elf(&[
            (PH[1] + P_PADDR, &address.to_le_bytes()),
            (PH[1] + P_MEMSZ, &bytes.to_le_bytes()),
        ]);
        load_image(&image, BootProtocolChoice::Auto).map_err(|error| error.problem)
    };
    assert!(outside(4 * MIB - 8, 8).is_ok());
    for (address, bytes) in
        [(4 * MIB - 8, 9), (4 * MIB, 8), (0x20_0000, u64::MAX - 0x20_0000), (1 << 62, 8)]
    {
        let problem = Problem::SegmentOutsideRam { index: 1, address, bytes, ram_bytes: 4 * MIB };
        assert_eq!(outside(address, bytes), Err(problem));
    }
}

#[test]
fn a_segment_may_cross_adjacent_regions_but_not_a_hole() {
    let crossing = elf(&[(PH[0] + P_PADDR, &(2 * MIB - 8).to_le_bytes())]);
    let image = inspect(kernel(&crossing)).unwrap();
    let choice = BootProtocolChoice::Auto;
    let adjacent = ram_pieces(&[(0, 2 * MIB), (2 * MIB, MIB)]);
    let entry_moved = load(&adjacent, &image, None, "", RSDP, choice).unwrap_err();
    assert_eq!(entry_moved.problem, Problem::EntryNotExecutable { entry: 0x10_0008 });

    let data = elf(&[(PH[1] + P_PADDR, &(2 * MIB - 4).to_le_bytes())]);
    let image = inspect(kernel(&data)).unwrap();
    load(&adjacent, &image, None, "", RSDP, choice).unwrap();
    assert_eq!(read::<8>(&adjacent, 2 * MIB - 4), ELF[0x110..0x118]);
    let hole = ram_pieces(&[(0, 2 * MIB), (2 * MIB + 4096, MIB)]);
    let error = load(&hole, &image, None, "", RSDP, choice).unwrap_err();
    assert!(matches!(error.problem, Problem::SegmentOutsideRam { index: 1, .. }));
}

/// Loads [`ELF`] by PVH with an initrd of `bytes` and gives where the initrd lies.
fn initrd_start(memory: &GuestMemoryMmap, kernel_image: &[u8], bytes: usize) -> Option<u64> {
    let content = vec![0x1D; bytes];
    let image = inspect(kernel(kernel_image)).unwrap();
    let source = initrd(&content);
    load(memory, &image, Some(&source), "", RSDP, BootProtocolChoice::Linux64).ok()?;
    let [start, size] =
        [0x218, 0x21C].map(|offset| u32::from_le_bytes(read(memory, 0x7000 + offset)));
    assert_eq!(size as usize, bytes);
    assert_eq!(read::<1>(memory, u64::from(start)), [0x1D]);
    assert_eq!(read::<1>(memory, u64::from(start) + bytes as u64 - 1), [0x1D]);
    Some(u64::from(start))
}

#[test]
fn the_initrd_lies_as_high_as_ram_allows() {
    assert_eq!(initrd_start(&ram(4 * MIB), &ELF, 4096), Some(4 * MIB - 4096));
    assert_eq!(initrd_start(&ram(4 * MIB), &ELF, 4097), Some(4 * MIB - 8192));
    // RAM above the hole is out of a 32-bit kernel's reach.
    let high = ram_pieces(&[(0, 4 * MIB), (1 << 32, 4 * MIB)]);
    assert_eq!(initrd_start(&high, &ELF, 1), Some(4 * MIB - 4096));
}

#[test]
fn the_initrd_avoids_the_kernel() {
    let at_the_top = elf(&[(PH[1] + P_PADDR, &(4 * MIB - 4096).to_le_bytes())]);
    assert_eq!(initrd_start(&ram(4 * MIB), &at_the_top, 4096), Some(4 * MIB - 8192));
    // All that is free is between the code's page and the data.
    let most = (3 * MIB - 8192) as usize;
    assert_eq!(initrd_start(&ram(4 * MIB), &at_the_top, most), Some(MIB + 4096));
    assert_eq!(initrd_start(&ram(4 * MIB), &at_the_top, most + 1), None);
}

#[test]
fn an_initrd_without_room_is_refused() {
    let content = vec![0; 3 << 20];
    let image = inspect(kernel(&ELF)).unwrap();
    let error =
        load(&ram(4 * MIB), &image, Some(&initrd(&content)), "", RSDP, BootProtocolChoice::Auto)
            .unwrap_err();
    assert_eq!(error.role, Role::Initrd);
    let problem = Problem::InitrdTooLarge { bytes: 3 << 20, ram_bytes: 4 * MIB };
    assert_eq!(error.problem, problem);
}

#[test]
fn a_bzimage_limits_where_its_initrd_ends() {
    let mut image = bzimage();
    patch(&mut image, 0x22C, &(0x38_0FFFu32).to_le_bytes());
    assert_eq!(initrd_start(&ram(4 * MIB), &image, 1), Some(0x38_0000));
    patch(&mut image, 0x22C, &0u32.to_le_bytes());
    assert_eq!(initrd_start(&ram(4 * MIB), &image, 1), None);
}

#[test]
fn too_little_ram_for_boot_data_is_an_error() {
    let image = inspect(kernel(&ELF)).unwrap();
    let memory = ram_pieces(&[(MIB, MIB)]);
    let error = load(&memory, &image, None, "", RSDP, BootProtocolChoice::Auto).unwrap_err();
    assert_eq!(error.problem, Problem::NoRamForBootData(0x2_0000));
}
