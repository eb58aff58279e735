//! The server against messages made by hand, a real kernel, and a link.

mod client;
mod hostile;
mod kernel;
mod mounted;
mod over_link;
mod single_file;
