//! Behaviour as a guest sees it.
