//! Tests of the manager: real machines over HTTP.

mod chaos;
mod machines;
mod recovery;
