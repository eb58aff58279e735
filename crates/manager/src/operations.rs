//! Changes that take time. Each is recorded before it begins, is carried out by a task, and is taken up again by the next
//! manager if this one ends meanwhile.

mod begin;
mod boot_snapshot;
mod clone;
mod clones;
mod create;
mod finish;
mod fork;
mod instantiate;
mod lifecycle;
mod new;
mod pull;
mod request;
mod run;
mod snapshot;

pub(crate) use begin::{Begun, begin, begin_create, check_idle, name_taken};
pub(crate) use boot_snapshot::machine_spec as boot_machine_spec;
pub(crate) use clones::undecided;
pub(crate) use new::NewOperation;
pub(crate) use request::OperationRequest;
pub(crate) use run::{resume_unfinished, spawn};
pub(crate) use snapshot::check_contents;
