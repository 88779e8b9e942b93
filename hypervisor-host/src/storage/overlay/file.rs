//! Overlays in files: a file that is kept, and a temporary one without a name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

use super::Overlay;
use super::header::{Fits, Header, Layout};
use super::map::Map;
use crate::storage::disk::Disk;
use crate::storage::file::{Access, FileDisk, OpenError, lock};

/// An overlay can't be had. The texts go behind "cannot use the overlay FILE: ".
#[derive(Debug, Error)]
pub enum OverlayError {
    /// The operating system refuses.
    #[error("{0}; check the path, its permissions and the free space there")]
    Os(#[from] io::Error),
    /// Another machine uses it, or it is no file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is something else.
    #[error("it is no overlay; name a new file")]
    NoOverlay,
    /// It belongs to another base.
    #[error("it is for a disk of {0} bytes; name a new file, or the disk that it was made for")]
    OtherSize(u64),
    /// It belongs to the base as it was.
    #[error("the disk below has been changed since it was made; name a new file")]
    Changed,
    /// The base is too large for a map.
    #[error("the disk below has more than 16 TiB; name a smaller one")]
    TooLarge,
}

/// Opens the overlay at `path` over `base`, or makes it.
///
/// `base_changed_ns` tells this base from others of the same size, and from itself after a change.
///
/// # Errors
/// It is something else, belongs to another base, is in use, or the operating system refuses.
pub fn open(
    base: Arc<dyn Disk>,
    path: &Path,
    base_changed_ns: i64,
) -> Result<Overlay, OverlayError> {
    let layout = Layout::new(base.info().bytes).ok_or(OverlayError::TooLarge)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(OverlayError::NoOverlay);
    }
    lock(&file, Access::ReadWrite)?;
    let map = match read_header(&file)? {
        None => create(&file, path, layout, base_changed_ns)?,
        Some(header) => match header.fits(layout.disk_bytes, base_changed_ns) {
            Fits::Yes => load_map(&file, layout)?,
            Fits::NoOverlay => return Err(OverlayError::NoOverlay),
            Fits::OtherSize(bytes) => return Err(OverlayError::OtherSize(bytes)),
            Fits::Changed => return Err(OverlayError::Changed),
        },
    };
    let store = Arc::new(FileDisk::from_file(file, Access::ReadWrite)?);
    Ok(Overlay::new(base, store, layout, map, true))
}

/// An overlay that is gone when it is closed, in the folder for temporary files.
///
/// # Errors
/// The operating system refuses.
pub fn temporary(base: Arc<dyn Disk>) -> Result<Overlay, OverlayError> {
    let layout = Layout::new(base.info().bytes).ok_or(OverlayError::TooLarge)?;
    let folder = std::env::temp_dir();
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(folder)?;
    file.set_len(layout.store_bytes())?;
    let store = Arc::new(FileDisk::from_file(file, Access::ReadWrite)?);
    let map = Map::empty(layout.disk_bytes);
    Ok(Overlay::new(base, store, layout, map, false))
}

/// The head, if there is one: a file that is empty, or whose making was interrupted, has none.
fn read_header(file: &File) -> Result<Option<Header>, OverlayError> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(None);
    }
    if length < size_of::<Header>() as u64 {
        return Err(OverlayError::NoOverlay);
    }
    let mut header = Header::new_zeroed();
    file.read_exact_at(header.as_mut_bytes(), 0)?;
    // Nobody else's file begins with zeros, is sparse and has just our size; see `create`.
    let unfinished = header.is_blank() && file.metadata()?.blocks() == 0;
    if unfinished { Ok(None) } else { Ok(Some(header)) }
}

/// Makes the store. The head comes last, so a file with one is complete.
fn create(file: &File, path: &Path, layout: Layout, changed_ns: i64) -> io::Result<Map> {
    file.set_len(layout.store_bytes())?;
    file.sync_all()?;
    file.write_all_at(Header::new(layout.disk_bytes, changed_ns).as_bytes(), 0)?;
    file.sync_all()?;
    // The name must be safe too.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(Map::empty(layout.disk_bytes))
}

fn load_map(file: &File, layout: Layout) -> Result<Map, OverlayError> {
    // A file that was cut off has lost clusters whose bits are set.
    if file.metadata()?.len() < layout.store_bytes() {
        return Err(OverlayError::NoOverlay);
    }
    let mut bytes = vec![0; layout.map_bytes() as usize];
    file.read_exact_at(&mut bytes, layout.map_offset)?;
    Ok(Map::from_bytes(&bytes, layout.disk_bytes))
}
