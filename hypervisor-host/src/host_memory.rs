//! How much memory this process has taken, with and without guest RAM (`/proc/self/smaps`).

use std::fs;
use std::io;
use std::ops::Range;

use crate::report::MemoryReport;

/// Measures this process. `ram` is where guest RAM is mapped.
///
/// # Errors
/// `/proc` is not mounted.
pub fn measure(ram: &[Range<u64>], ram_bytes: u64) -> io::Result<MemoryReport> {
    let file = fs::File::open("/proc/self/smaps")?;
    sum(io::BufReader::new(file), ram, ram_bytes)
}

/// All memory of this computer in bytes, if it tells.
pub fn total_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| kibibytes(line, "MemTotal:"))
}

fn sum(smaps: impl io::BufRead, ram: &[Range<u64>], ram_bytes: u64) -> io::Result<MemoryReport> {
    let mut report = MemoryReport { ram_bytes, ..Default::default() };
    let mut in_ram = false;
    for line in smaps.lines() {
        let line = line?;
        if let Some(mapping) = mapping(&line) {
            let within = |ram: &Range<u64>| ram.start <= mapping.start && mapping.end <= ram.end;
            in_ram = ram.iter().any(within);
        } else if let Some(resident) = kibibytes(&line, "Rss:") {
            report.rss_bytes += resident;
            if in_ram {
                report.ram_resident_bytes += resident;
            }
        }
    }
    report.overhead_bytes = report.rss_bytes - report.ram_resident_bytes;
    Ok(report)
}

/// The addresses in the first line of a mapping: `7f00-7f10 rw-p …`.
fn mapping(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// The value of a line such as `Rss:  12 kB`, in bytes.
fn kibibytes(line: &str, name: &str) -> Option<u64> {
    let value = line.strip_prefix(name)?.trim().strip_suffix("kB")?;
    value.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
Size:                328 kB
Rss:                 100 kB
Pss:                  10 kB
7f0000200000-7f0000400000 rw-p 00000000 00:00 0
Size:               2048 kB
Rss:                1024 kB
AnonHugePages:         0 kB
7ffd0000-7ffd1000 rw-p 00000000 00:00 0           [stack]
Rss:                   8 kB
";

    #[test]
    fn guest_ram_and_the_rest_are_told_apart() {
        let ram = 0x7F00_0020_0000..0x7F00_0060_0000;
        let report = sum(SMAPS.as_bytes(), &[ram], 4 << 20).unwrap();
        assert_eq!(report.rss_bytes, 1132 << 10);
        assert_eq!(report.ram_resident_bytes, 1024 << 10);
        assert_eq!(report.overhead_bytes, 108 << 10);
        assert_eq!(report.ram_bytes, 4 << 20);
    }

    #[test]
    fn this_process_has_memory() {
        let report = measure(&[], 0).unwrap();
        assert!(report.rss_bytes > 0);
        assert_eq!(report.overhead_bytes, report.rss_bytes);
        assert!(total_bytes().unwrap() >= report.rss_bytes);
    }
}
