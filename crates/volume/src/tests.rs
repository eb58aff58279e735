//! Tests of the server with handcrafted messages, a real kernel, and a guest link.

mod client;
mod hostile;
mod kernel;
mod locks;
mod mounted;
mod over_link;
mod single_file;
