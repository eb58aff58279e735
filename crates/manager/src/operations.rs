//! Changes that take time. Each is recorded before it begins, is carried out by a task, and is taken up again by the next
//! manager if this one ends meanwhile.

mod begin;
mod create;
mod finish;
mod lifecycle;
mod live;
mod request;
mod run;

pub(crate) use begin::{Begun, begin, begin_create, name_taken};
pub(crate) use live::{LiveOperation, LiveOperations};
pub(crate) use request::OperationRequest;
pub(crate) use run::{resume_unfinished, spawn};
