//! What a guest's kernel can ask, one verb each.

mod access;
mod attributes;
mod create;
mod directory;
mod forget;
mod init;
mod link;
mod lookup;
mod make;
mod open;
mod read;
mod remove;
mod rename;
mod statfs;
mod write;
mod xattr;
