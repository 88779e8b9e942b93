use super::csr::{BusMode, Mode, Status};
use super::descriptor::{TX_FT0, TX_FT1};
use super::setup::FilterType;
use super::*;

#[test]
fn registers_are_eight_bytes_apart_and_fill_the_window() {
    assert_eq!((csr_offset(5), csr_offset(15)), (0x28, 0x78));
    assert_eq!(csr_offset(16), TULIP_REGISTER_BYTES);
}

/// What Linux writes (`tulip_core.c`: `csr0` of x86, `valid_intrs` of the 21140, `csr6` for MII).
#[test]
fn linux_names_of_bits_agree() {
    let csr0 = BusMode::from_bits_retain(0x01A0_8000);
    assert_eq!(
        csr0 & !BusMode::from_bits_retain(BusMode::CAL_MASK),
        BusMode::WIE | BusMode::RLE | BusMode::RML
    );
    let interrupts = Status::from_bits_retain(0x0001_EBEF);
    let all = Status::NORMAL | Status::ABNORMAL | Status::NIS | Status::AIS;
    assert_eq!(interrupts, all & !Status::ETI);
    let csr6 = Mode::from_bits_retain(0x020E_0000);
    assert_eq!(csr6, Mode::MBO | Mode::HBD | Mode::PS | Mode::CA);
    assert_eq!(Mode::from_bits_retain(0x2002), Mode::ST | Mode::SR);
    assert_eq!((Status::TS_MASK, Status::RS_MASK), (0x0070_0000, 0x000E_0000));
}

#[test]
fn a_reset_leaves_no_event_and_no_process() {
    assert_eq!(Status::RESET & (Status::NORMAL | Status::ABNORMAL).bits(), 0);
    assert_eq!(Status::RESET & (Status::RS_MASK | Status::TS_MASK | Status::EB_MASK), 0);
    assert!(!Mode::from_bits_retain(Mode::RESET).intersects(Mode::SR | Mode::ST));
}

#[test]
fn filter_types_are_two_bits_of_the_descriptor() {
    for (filter, control) in [
        (FilterType::PERFECT, 0),
        (FilterType::HASH, TX_FT0),
        (FilterType::INVERSE, TX_FT1),
        (FilterType::HASH_ONLY, TX_FT0 | TX_FT1),
    ] {
        assert_eq!(filter.control(), control);
        assert_eq!(FilterType::of_control(control | !(TX_FT0 | TX_FT1)), filter);
    }
}
