//! Something that many use for a while, until one takes it away.

use alloc::sync::Arc;

use spin::Mutex;

/// Holds a value that can be borrowed for as long as a round of work lasts, and taken away once.
pub(super) struct Holder<T>(Mutex<Option<Arc<T>>>);

impl<T> Holder<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(Some(Arc::new(value))))
    }

    pub(super) const fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(super) fn put(&self, value: T) {
        let old = self.0.lock().replace(Arc::new(value));
        drop(old);
    }

    /// The value, if it is still there. Whoever has it keeps it alive.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    /// Takes the value away. Those who have it drop it when they are ready; the last one's drop counts.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        self.0.lock().take()
    }
}
