//! The HTTP API of the manager.
