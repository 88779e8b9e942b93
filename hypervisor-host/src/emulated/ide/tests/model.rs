//! Commands at random, against a vector of bytes.

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::status;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
struct Step {
    write: bool,
    way: u8,
    lba: u64,
    count: u16,
    seed: u8,
    multiple: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = (any::<bool>(), 0_u8..6, 0_u64..600, 1_u16..70, any::<u8>(), 0_u8..5);
    numbers.prop_map(|(write, way, lba, count, seed, multiple)| Step {
        write,
        way,
        lba,
        count,
        seed,
        multiple: 1 << multiple,
    })
}

fn command(step: Step) -> AtaCommand {
    match (step.way, step.write) {
        (0, false) => AtaCommand::READ_SECTORS,
        (0, true) => AtaCommand::WRITE_SECTORS,
        (1, false) => AtaCommand::READ_SECTORS_EXT,
        (1, true) => AtaCommand::WRITE_SECTORS_EXT,
        (2, false) => AtaCommand::READ_MULTIPLE,
        (2, true) => AtaCommand::WRITE_MULTIPLE,
        (3, false) => AtaCommand::READ_MULTIPLE_EXT,
        (3, true) => AtaCommand::WRITE_MULTIPLE_EXT,
        (4, false) => AtaCommand::READ_DMA,
        (4, true) => AtaCommand::WRITE_DMA,
        (_, false) => AtaCommand::READ_DMA_EXT,
        (_, true) => AtaCommand::WRITE_DMA_EXT,
    }
}

/// Does a step, and gives what was read.
fn run(rig: &Rig, step: Step, data: &[u8]) -> Vec<u8> {
    rig.issue(AtaCommand::SET_MULTIPLE_MODE, [0, step.multiple, 0, 0, 0, 0xA0]);
    assert_eq!(rig.status(), READY);
    if step.way >= 4 {
        // Two regions, cut somewhere.
        let cut = (u16::from(step.seed) % 200 + 1) * 2;
        rig.table(&[(DATA, cut), (DATA + 0x1_0000, data.len() as u16 - cut)]);
        rig.fill(DATA, &data[..cut.into()]);
        rig.fill(DATA + 0x1_0000, &data[cut.into()..]);
    }
    match step.way % 2 {
        0 => rig.lba28(command(step), step.lba as u32, step.count as u8),
        _ => rig.lba48(command(step), step.lba, step.count),
    }
    if step.way >= 4 {
        rig.start(if step.write { 1 } else { 9 });
        assert_eq!(rig.status(), READY);
        let cut = (u16::from(step.seed) % 200 + 1) * 2;
        let behind = data.len() - usize::from(cut);
        return [rig.memory(DATA, cut.into()), rig.memory(DATA + 0x1_0000, behind)].concat();
    }
    let block = if step.way < 2 { 512 } else { usize::from(step.multiple) * 512 };
    let mut read = Vec::new();
    for block in data.chunks(block) {
        assert_eq!(rig.status(), READY | status::DRQ);
        if step.write {
            rig.write_data(block);
        } else {
            read.extend(rig.read_data(block.len()));
        }
    }
    assert_eq!(rig.status(), READY);
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_disk_is_a_run_of_bytes(steps in prop::collection::vec(step(), 1..12)) {
        let rig = Rig::disk();
        let mut model = content(SECTORS, 512);
        for step in steps {
            let range = step.lba as usize * 512..(step.lba as usize + usize::from(step.count)) * 512;
            let data = vec![step.seed; range.len()];
            let read = run(&rig, step, &data);
            if step.write {
                model[range].copy_from_slice(&data);
            } else {
                prop_assert_eq!(&read[..], &model[range]);
            }
        }
        prop_assert_eq!(rig.disk.content(), model);
    }
}
