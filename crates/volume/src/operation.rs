//! The requests of a guest's kernel, by operation.

mod access;
mod attributes;
mod create;
mod directory;
mod forget;
mod init;
mod link;
mod lock;
mod lookup;
mod make;
mod open;
mod read;
mod remove;
mod rename;
mod statfs;
mod tmpfile;
mod write;
mod xattr;
