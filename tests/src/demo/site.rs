//! The files that are served, and the FAT image that they lie in, made by foreign tools: `mkfs.vfat` and `mcopy`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::outcome::write_file;
use crate::probe::pattern;
use crate::sha256::sha256;

/// Seed of the large files, so that everybody who makes them has the same.
const SEED: u64 = 0x0E17_11E4;
/// Room for everything but the large file, in MiB.
const REST_MIB: u32 = 8;
/// The file that several fetch at the same time.
const MEBIBYTE: &str = "downloads/one mebibyte.bin";
const LARGE: &str = "large.bin";
/// A part of the large file: first and last byte. It begins and ends in the middle of everything.
const RANGE: (usize, usize) = (1_000_001, 1_999_998);

/// Files that never change: name, content, content type.
const PAGES: [(&str, &str, &str); 5] = [
    ("index.html", include_str!("site/index.html"), "text/html"),
    ("style.css", include_str!("site/style.css"), "text/css"),
    ("picture.svg", include_str!("site/picture.svg"), "image/svg+xml"),
    ("docs/index.html", include_str!("site/docs/index.html"), "text/html"),
    (
        "docs/A name that is longer than 8.3 & has \u{fc}ml\u{e4}uts.txt",
        "Long names are kept in UTF-16, in pieces of 13 units.\n",
        "text/plain",
    ),
];

/// Which FAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fat {
    /// 16 bits for each cluster.
    Fat16,
    /// 32 bits for each cluster.
    Fat32,
}

impl Fat {
    /// Options of `mkfs.vfat`, and MiB that the image needs at least for its number of clusters.
    fn options(self) -> (&'static [&'static str], u32) {
        match self {
            Self::Fat16 => (&["-F", "16"], 16),
            // 65,525 clusters of one sector make 32 MiB.
            Self::Fat32 => (&["-F", "32", "-s", "1"], 36),
        }
    }
}

/// What was made.
#[derive(Debug)]
pub(super) struct Site {
    /// The disk image.
    pub(super) image: PathBuf,
    /// What `demo.sh` reads: a line for each file with its checksum, type and path.
    pub(super) wanted: PathBuf,
}

/// Makes `NAME.img` and `NAME.wanted` in `folder`, with a large file of so many MiB (at least 2).
///
/// # Errors
///
/// A tool is missing or fails, or there is no room.
pub(super) fn make(folder: &Path, name: &str, large_mib: u32, fat: Fat) -> Result<Site> {
    let files = folder.join(format!("{name}.files"));
    let _leftover = fs::remove_dir_all(&files);
    let mut wanted = String::new();
    for (path, content, kind) in PAGES {
        write_file(&files.join(path), content.as_bytes())?;
        add(&mut wanted, content.as_bytes(), kind, &url(path))?;
    }
    add(&mut wanted, PAGES[0].1.as_bytes(), PAGES[0].2, "/")?;
    add(&mut wanted, PAGES[3].1.as_bytes(), PAGES[3].2, "/docs/")?;
    let large = random(large_mib as usize);
    for (path, content) in [(MEBIBYTE, &random(1)), (LARGE, &large)] {
        write_file(&files.join(path), content)?;
        add(&mut wanted, content, "application/octet-stream", &url(path))?;
    }
    let (first, last) = RANGE;
    let part = large.get(first..=last).context("the large file is too small for its range")?;
    add(&mut wanted, part, "part", &format!("range={first}-{last}"))?;
    add(&mut wanted, b"", "number", &format!("bytes={}", large.len()))?;
    let site = Site {
        image: folder.join(format!("{name}.img")),
        wanted: folder.join(format!("{name}.wanted")),
    };
    write_file(&site.wanted, wanted.as_bytes())?;
    fill_image(&site.image, &files, large_mib, fat)?;
    fs::remove_dir_all(&files).with_context(|| format!("cannot remove {}", files.display()))?;
    Ok(site)
}

fn random(mib: usize) -> Vec<u8> {
    let mut bytes = vec![0; mib << 20];
    pattern::fill(SEED, 0, &mut bytes);
    bytes
}

fn fill_image(image: &Path, files: &Path, large_mib: u32, fat: Fat) -> Result<()> {
    let (options, least_mib) = fat.options();
    let mib = (large_mib + REST_MIB).max(least_mib);
    let file = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(u64::from(mib) << 20)
        .with_context(|| format!("cannot make {} of {mib} MiB", image.display()))?;
    let mut make = Command::new("mkfs.vfat");
    // The same number each time, so that the image is the same.
    make.args(options).args(["-i", "0E1711E4", "-n", "ENLIGHTEN"]).arg(image);
    run(&mut make, "dosfstools")?;
    let names = fs::read_dir(files)?.map(|entry| entry.map(|entry| entry.path()));
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.sort();
    let mut copy = Command::new("mcopy");
    copy.arg("-i").arg(image).arg("-s").args(names).arg("::");
    // Names of files are UTF-8, whatever the user's terminal has.
    copy.env("LC_ALL", "C.UTF-8").env("MTOOLS_SKIP_CHECK", "1");
    run(&mut copy, "mtools")
}

/// Runs a tool of the Debian package `package`.
fn run(command: &mut Command, package: &str) -> Result<()> {
    // mkfs.vfat is not for everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}. Install it: apt-get install {package}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn add(wanted: &mut String, content: &[u8], kind: &str, path: &str) -> Result<()> {
    let sum = sha256(content)?;
    // Writing to a string does not fail.
    let _ = writeln!(wanted, "{sum} {kind} {path}");
    Ok(())
}

/// The path of a file in a URL.
fn url(path: &str) -> String {
    path.bytes().fold(String::from("/"), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_a_url() {
        assert_eq!(url("a b/\u{fc}.txt"), "/a%20b/%C3%BC.txt");
        assert_eq!(url(MEBIBYTE), "/downloads/one%20mebibyte.bin");
    }

    #[test]
    fn pages_link_only_to_what_is_there() {
        let known: Vec<_> =
            PAGES.iter().map(|page| page.0).chain([MEBIBYTE, LARGE]).map(url).collect();
        let there = |link: &str| {
            known.iter().any(|path| path == link || path.starts_with(link) && link.ends_with('/'))
        };
        let mut links = 0;
        for link in PAGES[0].1.split(['"']).skip(1).step_by(2) {
            if link.contains(['.', '/']) && !link.contains(' ') && link.len() > 3 {
                let link = format!("/{}", link.replace("&amp;", "%26"));
                assert!(there(&link), "{link}");
                links += 1;
            }
        }
        assert!(links >= 7, "{links}");
    }

    #[test]
    fn an_image_of_each_kind_is_a_file_system() {
        let folder = std::env::temp_dir().join(format!("enl-site-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (fat, label) in [(Fat::Fat16, &b"FAT16   "[..]), (Fat::Fat32, &b"FAT32   "[..])] {
            let site = make(&folder, "one", 2, fat).unwrap();
            let bytes = fs::read(&site.image).unwrap();
            let at = if fat == Fat::Fat16 { 54 } else { 82 };
            assert_eq!(&bytes[at..at + 8], label);
            let wanted = fs::read_to_string(&site.wanted).unwrap();
            assert_eq!(wanted.lines().count(), PAGES.len() + 6, "{wanted}");
            assert!(wanted.contains("number bytes=2097152"), "{wanted}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
