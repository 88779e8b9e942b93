use hv_abi::tulip::csr::{BusMode, Mode, Status, receive_state, timer, transmit_state};
use hv_abi::tulip::{CFDD, CFDD_SLEEP};

use super::*;

/// Hardware Reference Manual, table of CSR reset values; base addresses are undefined there.
#[test]
fn registers_have_the_manuals_values_after_power_up() {
    let desk = Desk::new();
    for (number, value) in [
        (0, 0xFE00_0000),
        (1, 0xFFFF_FFFF),
        (2, 0xFFFF_FFFF),
        (5, 0xFC00_0000),
        (6, 0x3200_0040),
        (7, 0xFFFE_0000),
        (8, 0xE000_0000),
        (9, 0xFFF4_83FF),
        (11, 0xFFFE_0000),
        (12, 0xFFFF_FEFF),
        (15, 0xFFFF_FEC8),
    ] {
        assert_eq!(desk.read(number), value, "CSR{number}");
    }
}

#[test]
fn configuration_space_says_what_the_chip_is() {
    let desk = Desk::new();
    assert_eq!(desk.bus.read_config(SLOT, 0, 0), 0x0009_1011);
    assert_eq!(desk.bus.read_config(SLOT, 0, 4) >> 16, 0x0280);
    assert_eq!(desk.bus.read_config(SLOT, 0, 8), 0x0200_0022);
    assert_eq!(desk.bus.read_config(SLOT, 0, 0x3C) >> 8, 0x28_1401);
    for (offset, size) in [(0x10, 0xFFFF_FF81), (0x14, 0xFFFF_FF80)] {
        desk.bus.write_config(SLOT, 0, offset, &[0xFF; 4]);
        assert_eq!(desk.bus.read_config(SLOT, 0, offset) | 0xFFFF_0000, size);
    }
}

#[test]
fn both_windows_show_the_same_registers() {
    let desk = Desk::new();
    desk.write(3, 0x1234_5679);
    let base = u64::from(desk.bus.base(SLOT, 0, 1));
    assert_eq!(desk.bus.read_u32(base + 0x18), 0x1234_5678);
    assert!(desk.bus.write_u32(base + 0x20, 0x8000));
    assert_eq!(desk.read(4), 0x8000);
}

#[test]
fn registers_are_accessed_whole_or_not_at_all() {
    let desk = Desk::new();
    desk.write(3, 0x1000);
    let port = desk.port(3);
    desk.bus.write_port(port, &[0xFF; 2]);
    desk.bus.write_port(port + 4, &[0xFF; 4]);
    assert_eq!(desk.read(3), 0x1000);
    assert_eq!(desk.bus.read_port(port), [0, 0x10]);
    assert_eq!(desk.bus.read_port(port + 4), [0xFF; 4]);
    assert_eq!(desk.bus.read_port::<3>(port + 1), [0xFF; 3]);
}

#[test]
fn big_endian_modes_are_refused() {
    let desk = Desk::new();
    desk.write(0, (BusMode::BLE | BusMode::DBO | BusMode::RML).bits() | 0x1F << 2);
    assert_eq!(desk.read(0), 0xFE20_007C);
}

#[test]
fn a_software_reset_undoes_all_but_the_port() {
    let desk = Desk::new();
    desk.write(0, 0x01A0_8000);
    desk.write(3, 0x1000);
    desk.write(7, 0x1_FFFF);
    desk.write(15, 0x11);
    desk.write(6, (Mode::PS | Mode::SR | Mode::ST | Mode::PM).bits());
    desk.write(0, BusMode::SWR.bits());
    assert_eq!(desk.read(0), 0xFE00_0000);
    assert_eq!(desk.read(6), 0x3204_0040);
    assert_eq!(
        (desk.read(5), desk.read(7), desk.read(15)),
        (0xFC00_0000, 0xFFFE_0000, 0xFFFF_FEC8)
    );
}

#[test]
fn the_mode_keeps_what_it_is_given_but_for_the_filters_bits() {
    let desk = Desk::new();
    // What Linux writes for MII, without starting anything.
    desk.write(6, 0x020E_0000);
    assert_eq!(desk.read(6), 0x320E_0000);
    desk.write(6, (Mode::HP | Mode::HO | Mode::IF | Mode::SCR | Mode::TTM).bits() | 0xC000);
    assert_eq!(desk.read(6), 0x3300_0000 | 0x40_0000 | 0xC000);
}

#[test]
fn processes_start_suspend_and_stop_and_say_so() {
    let mut desk = Desk::new();
    desk.write(3, RX_RING);
    desk.write(4, TX_RING);
    assert_eq!(desk.states(), (receive_state::STOPPED, transmit_state::STOPPED));
    desk.write(6, Mode::ST.bits());
    assert_eq!(desk.states(), (receive_state::STOPPED, transmit_state::FETCHING));
    desk.turn();
    assert_eq!(desk.states(), (receive_state::STOPPED, transmit_state::SUSPENDED));
    assert_eq!(desk.events(), Status::TU);
    desk.write(6, (Mode::ST | Mode::SR).bits());
    assert_eq!(desk.states().0, receive_state::WAITING);
    desk.turn();
    assert_eq!(desk.states(), (receive_state::SUSPENDED, transmit_state::SUSPENDED));
    assert_eq!(desk.events(), Status::TU | Status::RU);
    desk.write(5, u32::MAX);
    desk.write(6, 0);
    assert_eq!(desk.states(), (receive_state::STOPPED, transmit_state::STOPPED));
    assert_eq!(desk.events(), Status::TPS | Status::RPS);
    desk.write(5, u32::MAX);
    desk.write(6, 0);
    assert_eq!(desk.events(), Status::empty(), "what is stopped does not stop again");
}

#[test]
fn a_receive_demand_looks_again_and_ru_is_said_once() {
    let mut desk = Desk::started();
    desk.write(5, u32::MAX);
    desk.write(2, 0);
    desk.turn();
    assert_eq!(desk.states().0, receive_state::SUSPENDED);
    desk.receive_ring(1, 1536);
    desk.write(2, 0);
    desk.turn();
    assert_eq!(desk.states().0, receive_state::WAITING);
}

#[test]
fn only_what_the_mask_lets_through_makes_summaries_and_interrupts() {
    let mut desk = Desk::started();
    desk.write(7, 0);
    desk.send(&frame(BROADCAST, 60), 0);
    assert_eq!(desk.events(), Status::TI | Status::TU);
    assert!(!desk.line());
    // Without the summary's own bit, nothing interrupts.
    desk.write(7, Status::TI.bits());
    assert_eq!(desk.events(), Status::TI | Status::TU | Status::NIS);
    assert!(!desk.line());
    desk.write(7, (Status::TI | Status::NIS).bits());
    assert!(desk.line());
    desk.write(5, Status::TI.bits());
    assert_eq!(desk.events(), Status::TU);
    assert!(!desk.line());
    desk.write(6, 0);
    desk.write(7, (Status::TPS | Status::AIS).bits());
    assert!(desk.line());
    assert_eq!(desk.card.chip_counts().interrupts, 2);
}

#[test]
fn the_timer_runs_once_or_again_and_again() {
    let mut desk = Desk::new();
    let start = Instant::now();
    desk.write(6, Mode::PS.bits());
    desk.write(11, 100);
    assert!((1..=100).contains(&(desk.read(11) & timer::VALUE_MASK)));
    desk.now = start;
    let rest = desk.turn();
    assert!(rest.until.unwrap() <= Instant::now() + Duration::from_micros(8192));
    assert_eq!(desk.events(), Status::empty());
    desk.now = Instant::now() + Duration::from_micros(8192);
    assert_eq!(desk.turn().until, None);
    assert_eq!(desk.events(), Status::GTE);
    desk.write(11, timer::CON | 1);
    desk.now += Duration::from_secs(1);
    let rest = desk.turn();
    assert!(rest.until.unwrap() >= desk.now + Duration::from_millis(1), "nobody has seen it yet");
    desk.write(11, 0);
    assert_eq!(desk.turn().until, None);
}

#[test]
fn pins_are_inputs_until_they_are_made_outputs() {
    let desk = Desk::new();
    desk.write(12, 0x10F);
    desk.write(12, 0x05);
    assert_eq!(desk.read(12), 0xFFFF_FEF5);
}

#[test]
fn a_card_that_sleeps_or_may_not_master_the_bus_does_nothing() {
    let mut desk = Desk::started();
    desk.bus.write_config(SLOT, 0, 4, &[3, 0]);
    desk.send(&frame(BROADCAST, 60), 0);
    assert_eq!((desk.sent(), desk.status(TX_RING) >> 31), (None, 1));
    desk.bus.write_config(SLOT, 0, 4, &[7, 0]);
    desk.turn();
    assert!(desk.sent().is_some());
    desk.bus.write_config(SLOT, 0, CFDD, &CFDD_SLEEP.to_le_bytes());
    assert_eq!(desk.read(6), u32::MAX);
    desk.bus.write_config(SLOT, 0, CFDD, &[0; 4]);
    assert_ne!(desk.read(6), u32::MAX);
}
