//! Captures the memory of real processes and compares it byte by byte.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod child;

mod capture;
mod changed_pages;
mod flatten;
mod guest;
mod no_space;
