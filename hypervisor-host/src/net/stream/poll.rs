//! One descriptor that is readable when a socket has something to read, or room where some is wanted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::super::queue::borrow;

/// An epoll instance with one socket in it.
pub(super) struct Poll {
    epoll: Epoll,
    writable: AtomicBool,
}

impl Poll {
    pub(super) fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll.ctl(ControlOperation::Add, socket.as_raw_fd(), event)?;
        Ok(Self { epoll, writable: AtomicBool::new(false) })
    }

    /// Whether room for more is waited for too.
    pub(super) fn want_writable(&self, socket: BorrowedFd<'_>, want: bool) {
        if self.writable.swap(want, Ordering::AcqRel) == want {
            return;
        }
        let events = if want { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        let event = EpollEvent::new(events, 0);
        // The socket is in it, or was forgotten since.
        let _ = self.epoll.ctl(ControlOperation::Modify, socket.as_raw_fd(), event);
    }

    /// Never readable again.
    pub(super) fn forget(&self, socket: BorrowedFd<'_>) {
        let none = EpollEvent::default();
        let _ = self.epoll.ctl(ControlOperation::Delete, socket.as_raw_fd(), none);
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.epoll)
    }
}
