//! The suites of `make test`.

pub mod cargo;
