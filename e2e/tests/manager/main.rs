//! Tests of the manager: real machines over HTTP.

mod machines;
mod recovery;
