//! The bus against a guest in the same process.

mod channels;
mod echo;
