//! What a guest says of a command's data: which way, and for how many bytes it has memory.

use super::Action;
use super::sense::Sense;

/// Which way data may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataWay {
    /// Not at all.
    None,
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

/// A command's data as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPhase {
    /// Which way.
    pub way: DataWay,
    /// Bytes of memory.
    pub bytes: u32,
}

impl DataPhase {
    /// No data.
    pub const NONE: Self = Self { way: DataWay::None, bytes: 0 };

    /// Data of so many bytes can go that way. Otherwise the field that asks for it, at `field` of the command block, is wrong.
    ///
    /// # Errors
    /// It can't.
    pub fn check(self, way: DataWay, bytes: u32, field: u8) -> Result<(), Sense> {
        if bytes == 0 || (self.way == way && self.bytes >= bytes) {
            Ok(())
        } else {
            Err(Sense::invalid_field(field.into()))
        }
    }

    /// An answer, of which the command wants `allocation` bytes at most; `field` is where it says so.
    ///
    /// # Errors
    /// The guest wants an answer and takes no data.
    pub fn answer(self, mut answer: Vec<u8>, allocation: u32, field: u8) -> Result<Action, Sense> {
        answer.truncate(allocation as usize);
        if answer.is_empty() {
            return Ok(Action::Good);
        }
        if self.way != DataWay::In {
            return Err(Sense::invalid_field(field.into()));
        }
        answer.truncate(self.bytes as usize);
        Ok(Action::Answer(answer))
    }
}
