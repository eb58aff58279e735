//! Drivers for VMMs, behind one narrow interface.
//!
//! A [`Driver`] launches machines; an [`Instance`] is a running one. What a driver cannot do is a typed
//! error, never a success that did nothing. No code outside a driver's own folder tests for the driver's
//! name.

pub mod accel;
mod cleanup;
mod console;
mod driver;
pub mod fake;
pub mod firecracker;
mod program;
pub mod qemu;
mod spawn;

pub use mimeo_checkpoint::CheckpointError;

pub use driver::{
    Accelerator, Capabilities, CheckpointHook, CheckpointedProcess, Diagnostic, Disk, DiskError, DiskFormat,
    DiskIdentification, Driver, Forward, ForwardProtocol, GuestMemory, Instance, LaunchError, LaunchSpec,
    MemoryPiece, MemorySave, Network, OperationError, RestoreError, SaveKind, SavedMachine, Tap, TapUse,
    UserNetwork, VmExit, VmProcess,
};
