//! Whether the other end must be signalled.

/// Says whether the other end must be signalled now. Ignored, it would sleep on.
#[must_use = "the other end may sleep until it is signalled"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(bool);

impl Signal {
    pub(crate) const NONE: Self = Self(false);

    pub(crate) const fn new(needed: bool) -> Self {
        Self(needed)
    }

    /// `true`: signal the other end.
    pub const fn needed(self) -> bool {
        self.0
    }
}
