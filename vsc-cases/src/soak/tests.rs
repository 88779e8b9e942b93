use alloc::vec;

use super::block::{self, Label, Wrong};
use super::model::Model;
use super::random::Random;

const LABEL: Label = Label { run: 7, number: 9, generation: 3 };

#[test]
fn a_block_is_what_it_says_it_is() {
    for bytes in [32, 46, 512, 4096] {
        let mut block = vec![0xFF; bytes];
        LABEL.fill(&mut block);
        assert_eq!(LABEL.check(&block), Ok(()));
        assert_eq!(block::read(&block), Some(LABEL));
    }
}

#[test]
fn what_is_wrong_with_a_block_is_told() {
    let mut block = vec![0; 512];
    LABEL.fill(&mut block);
    let newer = Label { generation: 4, ..LABEL };
    assert_eq!(newer.check(&block), Err(Wrong::Stale(3)));
    for other in [Label { number: 8, ..LABEL }, Label { run: 8, ..LABEL }] {
        assert_eq!(other.check(&block), Err(Wrong::Misplaced(LABEL)));
    }
    assert_eq!(LABEL.check(&[0; 512]), Err(Wrong::Corrupt));
    assert_eq!(LABEL.check(&[0; 5]), Err(Wrong::Corrupt));
}

#[test]
fn no_wrong_bit_goes_unseen() {
    let mut block = vec![0; 512];
    LABEL.fill(&mut block);
    for bit in 0..8 * block.len() {
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(LABEL.check(&block), Err(Wrong::Corrupt), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn halves_of_two_generations_are_no_block() {
    let (mut old, mut new) = (vec![0; 512], vec![0; 512]);
    LABEL.fill(&mut old);
    Label { generation: 4, ..LABEL }.fill(&mut new);
    for cut in (24..512).step_by(8) {
        let torn = [&new[..cut], &old[cut..]].concat();
        assert!(LABEL.check(&torn) == Err(Wrong::Corrupt), "cut at {cut}");
    }
}

#[test]
fn the_model_knows_what_was_written_and_what_is_in_use() {
    let mut model = Model::new(1, 100..200);
    model.written(&(110..112));
    model.written(&(111..120));
    let generations = [109, 110, 111, 119, 120].map(|number| model.newest(number).generation);
    assert_eq!(generations, [0, 1, 2, 1, 0]);
    assert_eq!(model.next(111), Label { run: 1, number: 111, generation: 3 });
    assert!(model.claim(&(110..120)) && model.claim(&(120..121)));
    assert!(!model.claim(&(119..120)) && !model.claim(&(100..200)));
    model.release(&(110..120));
    assert!(model.claim(&(119..120)));
}

#[test]
fn random_numbers_are_those_of_the_algorithm_and_stay_below_their_end() {
    // The first of seed 1234567 by Vigna's splitmix64.c.
    let mut random = Random::new(1_234_567);
    assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
    let mut seen = [false; 10];
    (0..1000).for_each(|_| seen[random.below(10) as usize] = true);
    assert_eq!((seen, random.below(0)), ([true; 10], 0));
}
