//! The transmit and receive processes, and the address filter.

use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use hv_abi::tulip::csr::{Mode, Status, missed, receive_state, transmit_state};
use hv_abi::tulip::descriptor::{
    BUFFER1_MASK, BUFFER2_MASK, BUFFER2_SHIFT, CHAINED, END_OF_RING, OWN, RX_DE, RX_FL_SHIFT,
    RX_FS, RX_LS, TX_ES, TX_FS, TX_IC, TX_LS, TX_SET, TX_SETUP_DONE, TX_UF,
};
use hv_abi::tulip::setup::{FilterType, SETUP_FRAME_BYTES};

use super::{Mischief, State};

/// What the last setup frame said.
#[derive(Default)]
pub(super) struct Filter {
    kind: Option<FilterType>,
    addresses: BTreeSet<[u8; 6]>,
    table: Vec<u8>,
}

impl Filter {
    fn new(frame: &[u8], kind: FilterType) -> Self {
        let address = |offset: usize| [0, 1, 4, 5, 8, 9].map(|at| frame[offset + at]);
        let addresses = match kind {
            FilterType::HASH | FilterType::HASH_ONLY => BTreeSet::from([address(156)]),
            _ => (0..16).map(|place| address(place * 12)).collect(),
        };
        let table = frame.chunks(4).take(32).flat_map(|longword| longword[..2].to_vec()).collect();
        Self { kind: Some(kind), addresses, table }
    }

    fn hashed(&self, address: &[u8; 6]) -> bool {
        let mut crc = u32::MAX;
        for byte in address {
            for bit in 0..8 {
                let top = (crc & 1) ^ u32::from(byte >> bit & 1);
                crc = crc >> 1 ^ if top == 1 { 0xEDB8_8320 } else { 0 };
            }
        }
        let place = crc as usize & 511;
        self.table[place / 8] >> (place % 8) & 1 == 1
    }

    fn passes(&self, address: &[u8; 6], mode: Mode) -> bool {
        let group = address[0] & 1 == 1;
        if mode.contains(Mode::PR) || (group && mode.contains(Mode::PM)) {
            return true;
        }
        match self.kind {
            None => false,
            Some(FilterType::HASH) if group => self.hashed(address),
            Some(FilterType::HASH_ONLY) => self.hashed(address),
            Some(FilterType::INVERSE) => !self.addresses.contains(address),
            Some(_) => self.addresses.contains(address),
        }
    }
}

struct Descriptor {
    at: u32,
    status: u32,
    control: u32,
    buffers: [(u32, u32); 2],
    second: u32,
}

impl State {
    fn load(&mut self, at: u32) -> Option<Descriptor> {
        let word =
            |offset: u32| Some(self.hal.word(u64::from(at + offset))?.load(Ordering::SeqCst));
        let words = [word(0), word(4), word(8), word(12)];
        let [Some(status), Some(control), Some(first), Some(second)] = words else {
            self.bad_addresses += 1;
            return None;
        };
        let sizes = [control & BUFFER1_MASK, (control & BUFFER2_MASK) >> BUFFER2_SHIFT];
        let buffers =
            [(first, sizes[0]), (second, if control & CHAINED != 0 { 0 } else { sizes[1] })];
        Some(Descriptor { at, status, control, buffers, second })
    }

    fn close(&mut self, descriptor: &Descriptor, status: u32) {
        let at = u64::from(descriptor.at);
        if self.mischief == Mischief::Scribbles {
            for offset in [4, 8, 12] {
                self.set_word(at + offset, 0xDEAD_BEEF);
            }
        }
        self.set_word(at, status);
    }

    fn set_word(&self, at: u64, value: u32) {
        if let Some(word) = self.hal.word(at) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn next(&self, descriptor: &Descriptor, base: u32) -> u32 {
        match descriptor.control {
            control if control & END_OF_RING != 0 => base,
            control if control & CHAINED != 0 => descriptor.second,
            _ => descriptor.at + 16,
        }
    }

    fn transmit_state_now(&self) -> u32 {
        (self.csr[5] & Status::TS_MASK) >> Status::TS_SHIFT
    }

    pub(super) fn demand_transmit(&mut self) {
        if self.transmit_state_now() == transmit_state::SUSPENDED {
            self.transmit_state(transmit_state::FETCHING);
        }
    }

    pub(super) fn demand_receive(&mut self) {
        if (self.csr[5] & Status::RS_MASK) >> Status::RS_SHIFT == receive_state::SUSPENDED {
            self.receive_state(receive_state::WAITING);
        }
    }

    /// Does one descriptor; false if there was none to do.
    pub(super) fn transmit_one(&mut self) -> bool {
        let state = self.transmit_state_now();
        let told = !matches!(state, transmit_state::STOPPED | transmit_state::SUSPENDED);
        let sleeps = state == transmit_state::STOPPED || self.mischief == Mischief::NeverSends;
        if sleeps || !(told || self.mischief == Mischief::GivesBackAtOnce) {
            return false;
        }
        let Some(descriptor) = self.load(self.transmit_at) else {
            self.fail();
            return true;
        };
        if descriptor.status & OWN == 0 {
            if told {
                self.transmit_state(transmit_state::SUSPENDED);
                self.raise(Status::TU);
            }
            return told;
        }
        self.transmit_at = self.next(&descriptor, self.csr[4]);
        let early = self.mischief == Mischief::LooksEarly;
        let next_is_there =
            !early || self.load(self.transmit_at).is_some_and(|next| next.status & OWN != 0);
        self.send(&descriptor);
        if !next_is_there {
            self.transmit_state(transmit_state::SUSPENDED);
        }
        true
    }

    fn send(&mut self, descriptor: &Descriptor) {
        if descriptor.control & TX_FS != 0 {
            self.partial.clear();
        }
        let mut data = core::mem::take(&mut self.partial);
        for (address, bytes) in descriptor.buffers {
            let mut part = vec![0; bytes as usize];
            if !self.hal.read(address.into(), &mut part) {
                self.bad_addresses += 1;
                return self.fail();
            }
            data.extend(part);
        }
        if descriptor.control & TX_SET != 0 {
            assert_eq!(data.len(), SETUP_FRAME_BYTES);
            let kind = FilterType::of_control(descriptor.control);
            self.filter = Filter::new(&data, kind);
            self.setups += 1;
            self.close(descriptor, TX_SETUP_DONE);
        } else if self.underflows > 0 && descriptor.control & TX_LS != 0 {
            self.underflows -= 1;
            self.close(descriptor, TX_UF | TX_ES);
            self.transmit_state(transmit_state::SUSPENDED);
            self.raise(Status::UNF);
            return;
        } else if descriptor.control & TX_LS != 0 {
            self.sent.push(data);
            self.close(descriptor, 0);
        } else {
            self.partial = data;
            self.close(descriptor, if descriptor.buffers[0].1 == 0 { TX_SETUP_DONE } else { 0 });
        }
        if descriptor.control & TX_IC != 0 {
            self.raise(Status::TI);
        }
    }

    /// A fatal error of the bus.
    fn fail(&mut self) {
        self.transmit_state(transmit_state::STOPPED);
        self.receive_state(receive_state::STOPPED);
        self.raise(Status::FBE);
    }

    /// Takes one frame from the network; false if there was none.
    pub(super) fn receive_one(&mut self) -> bool {
        let state = (self.csr[5] & Status::RS_MASK) >> Status::RS_SHIFT;
        if state == receive_state::STOPPED {
            return false;
        }
        let Some(frame) = self.waiting.pop_front() else { return false };
        let Some(destination) = frame.first_chunk() else { return true };
        if self.filter.passes(destination, self.mode()) {
            self.store(frame);
        }
        true
    }

    fn store(&mut self, mut frame: Vec<u8>) {
        frame.extend([0xFC; 4]);
        let length = frame.len() as u32;
        let mut rest = &frame[..];
        let mut first = RX_FS;
        loop {
            let Some(descriptor) = self.load(self.receive_at) else { return self.fail() };
            if descriptor.status & OWN == 0 {
                self.receive_state(receive_state::SUSPENDED);
                self.raise(Status::RU);
                if first != 0 {
                    self.csr[8] += 1 & missed::FRAMES_MASK;
                }
                return;
            }
            self.receive_state(receive_state::WAITING);
            for (address, bytes) in descriptor.buffers {
                let (now, later) = rest.split_at(rest.len().min(bytes as usize));
                if !self.hal.write(address.into(), now) {
                    self.bad_addresses += 1;
                    return self.fail();
                }
                rest = later;
            }
            self.receive_at = self.next(&descriptor, self.csr[3]);
            let done = rest.is_empty();
            let next_is_ours =
                !done && self.load(self.receive_at).is_none_or(|next| next.status & OWN == 0);
            let end = match (done, next_is_ours) {
                (true, _) => RX_LS | length << RX_FL_SHIFT,
                (false, true) => RX_LS | RX_DE,
                (false, false) => 0,
            };
            let lie = if let Mischief::Lies(bits) = self.mischief { bits } else { 0 };
            self.close(&descriptor, (first | end) ^ lie);
            first = 0;
            if end != 0 {
                self.raise(Status::RI);
                return;
            }
        }
    }
}
