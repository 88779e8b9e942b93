//! Finds the virtio-serial port that leads to the runner.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::lab::protocol::PORT_NAME;

/// Ports appear a moment after the driver is loaded.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// Opens the port named [`PORT_NAME`].
pub(super) fn open() -> Result<File, String> {
    for _ in 0..TRIES {
        if let Some(device) = find() {
            let path = Path::new("/dev").join(&device);
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| format!("cannot open {}: {error}", path.display()));
        }
        thread::sleep(PAUSE);
    }
    Err(format!("no virtio-serial port is named {PORT_NAME}"))
}

fn find() -> Option<std::ffi::OsString> {
    fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == PORT_NAME).then(|| entry.file_name())
    })
}
