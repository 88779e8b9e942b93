//! Sleeping until a descriptor is readable.
#![expect(unsafe_code, reason = "poll")]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::link::Link;
use super::{ChannelError, Wake};

/// Descriptors of the channel itself, which come first.
const OWN: usize = 2;

/// Sleeps until something happens to the channel or one of the others becomes readable.
pub(super) fn sleep(
    link: &Link,
    others: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
    polled: &mut Vec<libc::pollfd>,
) -> Result<Wake, ChannelError> {
    polled.clear();
    let own = [link.guest_event().as_raw_fd(), link.wake_event().as_raw_fd()];
    polled.extend(own.into_iter().map(readable));
    polled.extend(others.iter().map(|other| readable(other.as_raw_fd())));
    if poll(polled, timeout)? == 0 {
        return Ok(Wake::TimedOut);
    }
    let is_ready = |index: usize| polled.get(index).is_some_and(|polled| polled.revents != 0);
    let guest = is_ready(0);
    if guest {
        link.guest_signalled();
    }
    if is_ready(1) {
        link.wakes_seen();
    }
    if let Some(wake) = link.pending() {
        // A guest's signal that was read back is not forgotten: the next wait looks at the ring first.
        return Ok(wake);
    }
    if guest {
        return Ok(Wake::Guest);
    }
    match (OWN..polled.len()).find(|&index| is_ready(index)) {
        Some(index) => Ok(Wake::Other(index - OWN)),
        // A wake-up that somebody else has answered for already.
        None => Ok(Wake::Woken),
    }
}

/// Sleeps until the guest knows that the channel is open, or it is closed again.
pub(in crate::vmbus) fn until_started(link: &Link) -> Result<(), ChannelError> {
    while !link.is_started() && !link.is_closing() {
        poll(&mut [readable(link.wake_event().as_raw_fd())], None)?;
        link.wakes_seen();
    }
    Ok(())
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Tells how many are readable: none, if that took too long.
fn poll(polled: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<usize, ChannelError> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = polled.len() as libc::nfds_t;
    // SAFETY: `polled` has `count` entries, the time limit lives until the call returns, and there is no signal mask.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, timeout, std::ptr::null()) };
    if let Ok(ready) = usize::try_from(ready) {
        return Ok(ready);
    }
    match std::io::Error::last_os_error().raw_os_error() {
        // As if something had happened: the caller looks at everything again.
        Some(libc::EINTR) => Ok(1),
        error => Err(ChannelError::System(error.unwrap_or(0))),
    }
}
