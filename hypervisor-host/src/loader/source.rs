//! Where the bytes of a kernel or an initrd come from: a regular file, or memory (tests, fuzzing).
//!
//! A file is never read as a whole into the host's memory: headers are read on their own, and the
//! rest goes from the file straight to the guest's RAM.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, ReadVolatile, VolatileMemoryError};

use super::error::{LoadError, Problem, Role};

/// An opened input of known length. Its content may still change or shrink at any time.
#[derive(Debug)]
pub struct Source<'a> {
    role: Role,
    name: String,
    bytes: u64,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    File(File),
    Memory(&'a [u8]),
}

impl Source<'static> {
    /// Opens the regular file at `path`. Its content isn't read yet.
    pub fn open(role: Role, path: &Path) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        match open_regular(path) {
            Ok((file, bytes)) => Ok(Self { role, name, bytes, content: Content::File(file) }),
            Err(problem) => Err(problem.of(role, name)),
        }
    }
}

impl<'a> Source<'a> {
    /// A source with the content `bytes`, called `name` in errors.
    pub fn from_bytes(role: Role, name: &str, bytes: &'a [u8]) -> Self {
        Self {
            role,
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            content: Content::Memory(bytes),
        }
    }

    /// Length in bytes when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its path, or what it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether `bytes` bytes from `offset` on lie within it.
    pub(super) fn contains(&self, offset: u64, bytes: u64) -> bool {
        offset.checked_add(bytes).is_some_and(|end| end <= self.bytes)
    }

    /// `problem` as the error of this source.
    pub(super) fn error(&self, problem: Problem) -> LoadError {
        problem.of(self.role, self.name.clone())
    }

    /// Fills `buffer` from `offset` on. The caller has checked that the range lies in the source.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Problem> {
        match &self.content {
            Content::File(file) => {
                file.read_exact_at(buffer, offset).map_err(|error| read_problem(&error))
            }
            Content::Memory(bytes) => {
                let part = slice(bytes, offset, buffer.len() as u64)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// Copies `bytes` bytes from `offset` on to guest RAM at `target`, which the caller has checked.
    pub(super) fn copy_to<M: GuestMemoryBackend>(
        &self,
        offset: u64,
        bytes: u64,
        memory: &M,
        target: GuestAddress,
    ) -> Result<(), Problem> {
        match &self.content {
            Content::File(file) => {
                let mut reader = file;
                reader.seek(SeekFrom::Start(offset)).map_err(|error| read_problem(&error))?;
                fill(file, memory, target, bytes)
            }
            Content::Memory(content) => {
                let part = slice(content, offset, bytes)?;
                memory.write_slice(part, target).map_err(|_| Problem::NoRamForBootData(target.0))
            }
        }
    }
}

/// The bytes from `offset` on; [`Problem::Shrunk`] if there are fewer.
fn slice(bytes: &[u8], offset: u64, length: u64) -> Result<&[u8], Problem> {
    let range = || {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        bytes.get(start..end)
    };
    range().ok_or(Problem::Shrunk)
}

fn open_regular(path: &Path) -> Result<(File, u64), Problem> {
    // Looked at before it is opened, because opening a device can have effects of its own, and again
    // afterwards, because something else may have taken its place. O_NONBLOCK: a pipe must not block.
    regular_bytes(&fs::metadata(path).map_err(|error| open_problem(&error))?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| open_problem(&error))?;
    let bytes = regular_bytes(&file.metadata().map_err(|error| open_problem(&error))?)?;
    Ok((file, bytes))
}

fn regular_bytes(metadata: &Metadata) -> Result<u64, Problem> {
    if metadata.is_dir() {
        Err(Problem::IsDirectory)
    } else if !metadata.is_file() {
        Err(Problem::NotRegular)
    } else if metadata.len() == 0 {
        Err(Problem::Empty)
    } else {
        Ok(metadata.len())
    }
}

fn open_problem(error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Problem::NotFound,
        kind => Problem::Unreadable(kind),
    }
}

fn read_problem(error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::UnexpectedEof => Problem::Shrunk,
        kind => Problem::Unreadable(kind),
    }
}

/// Reads from the file's position into guest RAM; guest RAM may be several pieces there.
fn fill<M: GuestMemoryBackend>(
    mut file: &File,
    memory: &M,
    target: GuestAddress,
    bytes: u64,
) -> Result<(), Problem> {
    let outside = Problem::NoRamForBootData(target.0);
    let count = usize::try_from(bytes).map_err(|_| outside)?;
    for piece in memory.get_slices(target, count) {
        let mut piece = piece.map_err(|_| outside)?;
        file.read_exact_volatile(&mut piece).map_err(|error| match error {
            VolatileMemoryError::IOError(error) => read_problem(&error),
            _ => outside,
        })?;
    }
    Ok(())
}
