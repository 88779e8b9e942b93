//! The real-time clock of a PC (MC146818): the time of day, read-only, and nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{PortDevice, Request};

/// The clock; ports 0x70 (index) and 0x71 (data).
#[derive(Debug, Default)]
pub struct Cmos {
    index: u8,
}

impl Cmos {
    /// The index port.
    pub const FIRST: u16 = 0x70;
    /// Index and data.
    pub const COUNT: u16 = 2;
}

/// Status register B: 24-hour format; bit 2 clear means binary-coded decimals.
const STATUS_B_24_HOURS: u8 = 1 << 1;
/// Status register D: the battery is good.
const STATUS_D_VALID: u8 = 1 << 7;
/// Status register A: 32.768 kHz divider, never an update in progress.
const STATUS_A: u8 = 0x26;

impl PortDevice for Cmos {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        if offset == 1 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
            data.fill(register(self.index, now));
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        if let (0, Some(&byte)) = (offset, data.first()) {
            // Bit 7 masks NMIs.
            self.index = byte & 0x7F;
        }
        None
    }
}

fn register(index: u8, unix_seconds: u64) -> u8 {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = date(days);
    match index {
        0x00 => decimal(seconds % 60),
        0x02 => decimal(seconds / 60 % 60),
        0x04 => decimal(seconds / 3600),
        // 1 January 1970 was a Thursday; Sunday is 1.
        0x06 => decimal((days + 4) % 7 + 1),
        0x07 => decimal(day),
        0x08 => decimal(month),
        0x09 => decimal(year % 100),
        0x0A => STATUS_A,
        0x0B => STATUS_B_24_HOURS,
        0x0D => STATUS_D_VALID,
        0x32 => decimal(year / 100),
        _ => 0,
    }
}

/// Two digits, one in each half.
fn decimal(value: u64) -> u8 {
    ((value / 10 % 10) << 4 | (value % 10)) as u8
}

/// Year, month and day of a day counted from 1 January 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let length = 365 + u64::from(is_leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_those_of_date_utc() {
        // From `date -u -d @N +%F`.
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(951_782_400 / 86_400), (2000, 2, 29));
        assert_eq!(date(1_709_164_800 / 86_400), (2024, 2, 29));
        assert_eq!(date(4_107_542_400 / 86_400), (2100, 3, 1));
    }

    #[test]
    fn registers_are_binary_coded_decimals() {
        // 2001-09-09 01:46:40, a Sunday.
        let now = 1_000_000_000;
        let read = |index| register(index, now);
        assert_eq!([read(9), read(8), read(7)], [0x01, 0x09, 0x09]);
        assert_eq!([read(4), read(2), read(0)], [0x01, 0x46, 0x40]);
        assert_eq!((read(6), read(0x32)), (1, 0x20));
    }

    #[test]
    fn no_update_is_ever_in_progress() {
        let mut cmos = Cmos::default();
        assert_eq!(cmos.write(0, &[0x8A]), None);
        let mut byte = [0xFF];
        cmos.read(1, &mut byte);
        assert_eq!(byte[0] & 0x80, 0);
    }
}
