//! Two tasks as one.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

/// Polls both futures until both are ready: the bus's task and a driver's, for [`block_on`](super::block_on)'s background.
pub async fn both(first: impl Future, second: impl Future) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_runs, mut second_runs) = (true, true);
    poll_fn(|context| {
        first_runs = first_runs && first.as_mut().poll(context).is_pending();
        second_runs = second_runs && second.as_mut().poll(context).is_pending();
        if first_runs || second_runs { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}
