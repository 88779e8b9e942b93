//! A network without privileges: `passt`, a program that carries a guest's connections over this user's own sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use thiserror::Error;

use super::backend::{Backend, SendError};
use super::frame::{Frame, Received};
use super::options::Forward;
use super::stream::Stream;
use crate::stats::lock;

const PROGRAM: &str = "passt";

/// `passt` can't be used.
#[derive(Debug, Error)]
pub enum UserError {
    /// It is not there.
    #[error(
        "cannot start {PROGRAM}, which --net user needs: it is not installed; install the Debian package passt"
    )]
    NotInstalled,
    /// It can't be started.
    #[error("cannot start {PROGRAM}, which --net user needs: {0}; look at its documentation")]
    Start(io::Error),
}

/// A running `passt`, which ends with this.
pub struct UserNetwork {
    stream: Stream,
    child: Mutex<Child>,
}

impl UserNetwork {
    /// Starts it, with ports of this computer that lead to the guest.
    ///
    /// # Errors
    /// It is not there, or can't be started.
    pub fn start(forwards: &[Forward], mtu: u16) -> Result<Self, UserError> {
        Self::start_program(PROGRAM, forwards, mtu)
    }

    fn start_program(program: &str, forwards: &[Forward], mtu: u16) -> Result<Self, UserError> {
        let (ours, theirs) = UnixStream::pair().map_err(UserError::Start)?;
        let theirs = OwnedFd::from(theirs);
        let child = spawn(program, &theirs, forwards, mtu)?;
        let stream = Stream::new(ours.into(), PROGRAM.into()).map_err(UserError::Start)?;
        Ok(Self { stream, child: Mutex::new(child) })
    }
}

fn spawn(
    program: &str,
    socket: &OwnedFd,
    forwards: &[Forward],
    mtu: u16,
) -> Result<Child, UserError> {
    keep_open(socket).map_err(UserError::Start)?;
    let mut command = Command::new(program);
    command.args(["--foreground", "--quiet", "--mtu", &mtu.to_string()]);
    command.args(["--fd", &socket.as_raw_fd().to_string()]);
    for forward in forwards {
        let option = if forward.udp { "--udp-ports" } else { "--tcp-ports" };
        command.args([option, &format!("{}:{}", forward.host, forward.guest)]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => UserError::NotInstalled,
        _ => UserError::Start(error),
    })
}

/// Lets a program that is started have the descriptor too.
#[expect(unsafe_code, reason = "fcntl is a system call")]
fn keep_open(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: it sets the flags of an open descriptor, of which there is only "close on exec".
    match unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Backend for UserNetwork {
    fn describe(&self) -> String {
        self.stream.describe()
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.stream.send(frame)
    }

    fn flush(&self) {
        self.stream.flush();
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.stream.readiness()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        self.stream.receive(buffer)
    }

    fn link_up(&self) -> bool {
        self.stream.link_up()
    }
}

impl Drop for UserNetwork {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::wait_readable;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error =
            UserNetwork::start_program("/nowhere/passt", &[], 1500).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("not installed; install the Debian package passt"), "{text}");
    }

    #[test]
    fn frames_pass_to_and_from_the_program() {
        // A program that says its options as a frame of 200 bytes, then sends back what it gets.
        let path = std::env::temp_dir().join(format!("enlighten-passt-{}", std::process::id()));
        let script = "#!/bin/bash\nfd=$6\n\
            (printf '\\000\\000\\000\\310%-200s' \"$*\" >&$fd; exec cat <&$fd >&$fd)\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let forward = Forward { udp: false, host: 8080, guest: 80 };
        let network = UserNetwork::start_program(path.to_str().unwrap(), &[forward], 1500).unwrap();
        let mut buffer = [0; 2000];
        let mut next = || {
            for _ in 0..50 {
                if let Some(received) = network.receive(&mut buffer).unwrap() {
                    return buffer[..received.length].to_vec();
                }
                wait_readable(network.readiness(), Duration::from_millis(100));
            }
            panic!("nothing came");
        };
        let options = String::from_utf8(next()).unwrap();
        assert!(options.starts_with("--foreground --quiet --mtu 1500 --fd "), "{options}");
        assert!(options.trim_end().ends_with(" --tcp-ports 8080:80"), "{options}");
        network.send(&Frame::complete(b"hello")).unwrap();
        network.flush();
        assert_eq!(next(), b"hello");
        drop(network);
        fs::remove_file(&path).unwrap();
    }

    /// Who has 192.0.2.77? Asked by 192.0.2.1.
    const ARP: [u8; 42] = [
        255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0,
        0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 77,
    ];

    #[test]
    fn the_real_program_answers() {
        let network = match UserNetwork::start(&[], 1500) {
            Ok(network) => network,
            Err(error) => return println!("SKIP: {error}"),
        };
        let mut buffer = [0; 2000];
        for _ in 0..50 {
            // Sent again, for it may not be listening yet.
            let _ = network.send(&Frame::complete(&ARP));
            network.flush();
            wait_readable(network.readiness(), Duration::from_millis(100));
            match network.receive(&mut buffer) {
                Ok(Some(received)) if buffer[12..14] == [8, 6] => {
                    assert_eq!((received.length >= 42, buffer[21]), (true, 2));
                    assert_eq!(buffer[28..32], ARP[38..]);
                    return;
                }
                Ok(_) => {}
                Err(error) => return println!("SKIP: passt ended: {error}"),
            }
        }
        panic!("no answer");
    }
}
