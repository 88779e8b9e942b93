//! Time limits.

use core::fmt;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll};

use crate::hal::Hal;

/// The time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

impl core::error::Error for Elapsed {}

/// Whether the clock has reached the deadline; if not, has the task woken when it does.
fn poll_deadline<H: Hal>(hal: &H, deadline_100ns: u64, context: &Context<'_>) -> Poll<()> {
    if hal.now_100ns() >= deadline_100ns {
        return Poll::Ready(());
    }
    hal.wake_at(deadline_100ns, context.waker());
    Poll::Pending
}

/// Ready when the clock has reached `deadline_100ns`.
pub async fn sleep_until<H: Hal>(hal: &H, deadline_100ns: u64) {
    poll_fn(|context| poll_deadline(hal, deadline_100ns, context)).await;
}

/// What `future` gives, if it does so within `limit_100ns` from now.
///
/// # Errors
///
/// [`Elapsed`] if not; the future is then dropped.
pub async fn within<H: Hal, F: Future>(
    hal: &H,
    limit_100ns: u64,
    future: F,
) -> Result<F::Output, Elapsed> {
    by(hal, hal.now_100ns().saturating_add(limit_100ns), future).await
}

/// What `future` gives, if it does so before the clock is past `deadline_100ns`.
///
/// # Errors
///
/// [`Elapsed`] if not; the future is then dropped.
pub async fn by<H: Hal, F: Future>(
    hal: &H,
    deadline_100ns: u64,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => poll_deadline(hal, deadline_100ns, context).map(|()| Err(Elapsed)),
    })
    .await
}
