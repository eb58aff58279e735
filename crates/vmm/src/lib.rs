//! Drivers of virtual machine monitors behind one narrow seam.
//!
//! A [`Driver`] launches machines, an [`Instance`] is one that runs. What a
//! driver cannot do is a typed error, never a success that did nothing. No
//! driver's name stands in an `if` outside its own folder.

pub mod accel;
mod console;
mod driver;
pub mod fake;
pub mod qemu;
mod spawn;

pub use mimeo_checkpoint::CheckpointError;

pub use driver::{
    Accelerator, Capabilities, Disk, DiskFormat, Driver, Forward, ForwardProtocol, GuestMemory, Instance,
    KeptProcess, LaunchError, LaunchSpec, Meanwhile, MemoryPiece, Network, OperationError, RestoreError,
    SavedMachine, Tap, TapUse, UserNetwork, VmExit, VmProcess,
};
