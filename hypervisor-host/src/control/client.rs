//! The other end of a control socket.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::Failure;
use super::protocol::{Answer, Request, read_line, write_line};

/// No answer came.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("cannot reach a machine at {path}: {error}; give the path that its --control has", path = .path.display())]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The machine ended, or what answers is no machine.
    #[error("cannot talk to the machine at {path}: {error}; look whether it still runs", path = .path.display())]
    Talk {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A connection to a machine.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(path);
        let lines = connected
            .map(BufReader::new)
            .map_err(|error| ClientError::Connect { path: path.into(), error })?;
        Ok(Self { path: path.into(), lines })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// There is none, or it makes no sense. What the machine refuses is an answer.
    pub fn ask(&mut self, request: &Request) -> Result<Result<Value, Failure>, ClientError> {
        let answer = self.exchange(request);
        let answer = answer.map_err(|error| ClientError::Talk { path: self.path.clone(), error });
        Ok(answer?.into())
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        write_line(self.lines.get_mut(), request)?;
        let ended = || io::Error::other("it ended");
        let line = read_line(&mut self.lines)?.ok_or_else(ended)?;
        Ok(serde_json::from_slice(&line)?)
    }
}
