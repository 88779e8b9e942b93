//! Tasks that go on for as long as something else does.

use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;

/// Polls `main` until it is ready, and after it each time `background`, for as long as that is not ready itself: a driver's task beside
/// whatever uses the driver.
///
/// What `background` had not done by then is dropped.
pub async fn beside<T>(background: impl Future, main: impl Future<Output = T>) -> T {
    let (mut background, mut main) = (pin!(background), pin!(main));
    let mut runs = true;
    poll_fn(|context| {
        let done = main.as_mut().poll(context);
        if done.is_pending() {
            runs = runs && background.as_mut().poll(context).is_pending();
        }
        done
    })
    .await
}

/// Polls all futures until each is ready: many tasks as one, for [`beside`] or [`block_on`](super::block_on).
pub async fn all<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) {
    let mut waiting: Vec<F> = futures.into_iter().collect();
    poll_fn(|context| {
        waiting.retain_mut(|future| Pin::new(future).poll(context).is_pending());
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
