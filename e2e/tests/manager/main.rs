//! Tests of the manager: real machines over HTTP.

mod figures;
mod files;
mod logs;
mod machines;
mod streams;
