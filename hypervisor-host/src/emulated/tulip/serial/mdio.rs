//! The transceiver's wires: management frames (IEEE 802.3, clause 22.2.4.5).

use super::phy::Phy;

/// The transceiver's address, as on most boards and in QEMU's `tulip`.
pub(super) const PHY_ADDRESS: u32 = 1;
/// Ones before a frame.
const PREAMBLE: u8 = 32;
/// Bits from the start to the register's number.
const HEAD_BITS: u32 = 14;
/// Bits of turnaround and data.
const TAIL_BITS: u32 = 18;
const READ: u32 = 0b10;
const WRITE: u32 = 0b01;

/// The wires, and how far a frame is.
#[derive(Default)]
pub(super) struct Mdio {
    clock: bool,
    /// The clock was ever used.
    used: bool,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// So many ones came.
    Idle { ones: u8 },
    /// So many bits of the head came.
    Head { bits: u32, count: u32 },
    /// Giving a register; so many clocks are over.
    Read { value: u16, count: u32 },
    /// Taking a register; so many bits came.
    Write { register: u8, bits: u32, count: u32 },
    /// It is somebody else's.
    Skip { count: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Idle { ones: 0 }
    }
}

impl Mdio {
    /// The lines are like this now.
    pub(super) fn drive(&mut self, clock: bool, data: bool, phy: &mut Phy, link: bool) {
        let rises = clock && !self.clock;
        self.clock = clock;
        if rises {
            self.used = true;
            self.state = self.state.next(data, phy, link);
        }
    }

    /// What the line says to a driver that lets go of it: one if nobody drives it.
    pub(super) fn out(&self) -> bool {
        match self.state {
            State::Read { value, count } => match count {
                0 => true,
                1 => false,
                _ => value.checked_shr(TAIL_BITS - 1 - count).unwrap_or(1) & 1 != 0,
            },
            _ => self.used,
        }
    }
}

impl State {
    fn next(self, data: bool, phy: &mut Phy, link: bool) -> Self {
        let bit = u32::from(data);
        match self {
            Self::Idle { ones } if data => {
                Self::Idle { ones: ones.saturating_add(1).min(PREAMBLE) }
            }
            Self::Idle { ones: PREAMBLE } => Self::Head { bits: 0, count: 1 },
            Self::Idle { .. } => Self::default(),
            Self::Head { bits, count } => head(bits << 1 | bit, count + 1, phy, link),
            Self::Write { register, bits, count } => {
                let (bits, count) = (bits << 1 | bit, count + 1);
                if count < TAIL_BITS {
                    return Self::Write { register, bits, count };
                }
                phy.write(register, bits as u16);
                Self::default()
            }
            Self::Read { count, .. } | Self::Skip { count } if count + 1 >= TAIL_BITS => {
                Self::default()
            }
            Self::Read { value, count } => Self::Read { value, count: count + 1 },
            Self::Skip { count } => Self::Skip { count: count + 1 },
        }
    }
}

/// The bits of a head: start (01), operation, transceiver, register.
fn head(bits: u32, count: u32, phy: &mut Phy, link: bool) -> State {
    if count < HEAD_BITS {
        return State::Head { bits, count };
    }
    let register = (bits & 0x1F) as u8;
    match (bits >> 12 & 3, bits >> 10 & 3, bits >> 5 & 0x1F) {
        (0b01, READ, PHY_ADDRESS) => State::Read { value: phy.read(register, link), count: 0 },
        (0b01, WRITE, PHY_ADDRESS) => State::Write { register, bits: 0, count: 0 },
        (0b01, READ | WRITE, _) => State::Skip { count: 0 },
        _ => State::default(),
    }
}
