//! Tests of the manager: real machines over HTTP.

mod files;
mod logs;
mod machines;
mod streams;
