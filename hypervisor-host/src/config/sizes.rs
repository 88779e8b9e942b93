//! Sizes as people write them, and the amount of a guest's RAM.

use std::fmt;
use std::str::FromStr;

use super::ConfigError;
use crate::layout::{MAX_RAM_BYTES, MIN_RAM_BYTES};

/// An amount of guest RAM: whole 4 KiB pages between [`MIN_RAM_BYTES`] and [`MAX_RAM_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamSize(u64);

impl RamSize {
    /// Checks a number of bytes.
    pub fn new(bytes: u64) -> Result<Self, ConfigError> {
        let name = || ByteSize(bytes).to_string();
        if bytes < MIN_RAM_BYTES {
            Err(ConfigError::RamTooSmall(name()))
        } else if bytes > MAX_RAM_BYTES {
            Err(ConfigError::RamTooLarge(name()))
        } else if !bytes.is_multiple_of(4096) {
            Err(ConfigError::RamNotPages(name()))
        } else {
            Ok(Self(bytes))
        }
    }

    /// Bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for RamSize {
    type Err = ConfigError;

    /// A number with an optional suffix `K`, `M`, `G` or `T` (powers of 1024; `MiB`, `MB` mean the
    /// same). A number without suffix is bytes.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (digits, shift) =
            split_size(text).ok_or_else(|| ConfigError::RamSyntax(text.into()))?;
        let too_large = || ConfigError::RamTooLarge(text.into());
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        Self::new(number.checked_mul(1 << shift).ok_or_else(too_large)?)
    }
}

/// A number of bytes as a person writes it, as for [`RamSize`]; `None` if it is none, or too large for anything.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = split_size(text)?;
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Digits, and log₂ of the unit that follows them.
fn split_size(text: &str) -> Option<(&str, u32)> {
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, suffix) = trimmed.split_at(digits_end);
    let shift = match suffix.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        "e" | "eb" | "eib" => 60,
        _ => return None,
    };
    (!digits.is_empty()).then_some((digits, shift))
}

/// Prints a number of bytes with the largest binary unit that divides it.
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in units {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(text: &str) -> Result<u64, ConfigError> {
        text.parse::<RamSize>().map(RamSize::bytes)
    }

    #[test]
    fn sizes_take_binary_suffixes_in_any_case() {
        assert_eq!(ram("256M"), Ok(256 << 20));
        assert_eq!(ram("2g"), Ok(2 << 30));
        assert_eq!(ram("2048K"), Ok(2 << 20));
        assert_eq!(ram("16 MiB"), Ok(16 << 20));
        assert_eq!(ram("4194304"), Ok(4 << 20));
    }

    #[test]
    fn absurd_sizes_are_named_as_such() {
        for text in ["0", "1K", "0G"] {
            assert!(matches!(ram(text), Err(ConfigError::RamTooSmall(_))), "{text}");
        }
        for text in ["1E", "16E", "99999999999999999999", "18446744073709551615G", "1025G"] {
            assert!(matches!(ram(text), Err(ConfigError::RamTooLarge(_))), "{text}");
        }
        for text in ["", "M", "-1M", "1.5G", "12Q", "0x10M", "12M12"] {
            assert!(matches!(ram(text), Err(ConfigError::RamSyntax(_))), "{text}");
        }
        assert!(matches!(ram("4194305"), Err(ConfigError::RamNotPages(_))));
    }
}
