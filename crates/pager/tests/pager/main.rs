//! Captures the memory of real processes and compares it byte by byte.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod child;

mod capture;
mod full;
mod guest;
mod laid;
mod listed;
