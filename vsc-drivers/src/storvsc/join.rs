//! Many futures at once, for kernels without an executor of their own.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

use crate::task;

/// Polls futures from `source`, at most `width` at a time, until all are ready; `each` gets what they give, in any order.
pub(super) async fn for_each<F: Future>(
    mut source: impl Iterator<Item = F>,
    width: usize,
    mut each: impl FnMut(F::Output),
) {
    let mut active: Vec<Pin<Box<F>>> = Vec::new();
    poll_fn(|context| {
        loop {
            active.retain_mut(|future| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    each(output);
                    false
                }
                Poll::Pending => true,
            });
            let before = active.len();
            active.extend(source.by_ref().take(width.max(1).saturating_sub(before)).map(Box::pin));
            if active.len() == before {
                break;
            }
        }
        if active.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A future whose output is of no interest.
pub(super) type Task<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// `future` without its output.
pub(super) fn task<'a>(future: impl Future<Output: Send> + Send + 'a) -> Task<'a> {
    Box::pin(async {
        future.await;
    })
}

/// Polls all `others` for as long as `main` is not ready.
pub(super) async fn beside<M: Future>(main: M, others: Vec<Task<'_>>) -> M::Output {
    task::beside(task::all(others), main).await
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::pin::pin;
    use core::task::{Context, Waker};

    use super::*;

    #[test]
    fn all_are_polled_to_the_end_and_never_more_than_the_width() {
        let (active, most) = (Cell::new(0), Cell::new(0));
        let one = |index: usize| {
            let (active, most) = (&active, &most);
            async move {
                active.set(active.get() + 1);
                most.set(most.get().max(active.get()));
                let mut polls = 0;
                poll_fn(|_| {
                    polls += 1;
                    if polls > 1 + index % 3 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                active.set(active.get() - 1);
                index
            }
        };
        let mut seen = Vec::new();
        {
            let mut all = pin!(for_each((0..20).map(one), 4, |index| seen.push(index)));
            let mut context = Context::from_waker(Waker::noop());
            while all.as_mut().poll(&mut context).is_pending() {}
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert_eq!((active.get(), most.get()), (0, 4));
    }
}
