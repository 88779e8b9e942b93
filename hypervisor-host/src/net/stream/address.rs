//! Where a stream of frames leads.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port, as `HOST:PORT`.
    Tcp(String),
}

/// Nobody answers.
#[derive(Debug, Error)]
#[error("cannot connect the network to {address}: {error}; start what listens there first")]
pub struct StreamError {
    address: String,
    error: io::Error,
}

impl StreamError {
    pub(super) fn setup(address: &StreamAddress) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { address: address.to_string(), error }
    }
}

impl StreamAddress {
    pub(super) fn connect(&self) -> Result<OwnedFd, StreamError> {
        let connect = || -> io::Result<OwnedFd> {
            match self {
                Self::Unix(path) => Ok(UnixStream::connect(path)?.into()),
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address)?;
                    stream.set_nodelay(true)?;
                    Ok(stream.into())
                }
            }
        };
        connect().map_err(StreamError::setup(self))
    }
}

impl FromStr for StreamAddress {
    type Err = ();

    /// `HOST:PORT` without a slash is TCP, everything else the path of a Unix socket.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Err(());
        }
        let tcp = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !text.contains('/'));
        match tcp {
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => {
                Ok(Self::Tcp(text.into()))
            }
            Some(_) => Err(()),
            None => Ok(Self::Unix(text.into())),
        }
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}
