//! Checksums by a foreign tool, `sha256sum`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The checksum in hexadecimal.
///
/// # Errors
/// `sha256sum` is not there.
pub fn sha256(content: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sha256sum. Install it: apt-get install coreutils")?;
    child.stdin.take().context("sha256sum has no input")?.write_all(content)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.split_whitespace().next().filter(|sum| sum.len() == 64);
    sum.map(str::to_owned).with_context(|| format!("sha256sum said '{}'", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standards() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").unwrap(), expected);
    }
}
