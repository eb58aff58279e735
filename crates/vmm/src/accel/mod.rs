//! Determines whether this host can run our guests with hardware acceleration.
//!
//! That `/dev/kvm` opens proves little: a nested KVM may create VMs and vCPUs, then fail at the first
//! instruction or register of a stock kernel that it does not implement. An artificial guest proves little
//! more: one of ours passed or failed by what it happened to do, not by what kernels do (decision 0012). So
//! the proof is our own guest: KVM works if our kernel has booted on it and our agent has answered. The first
//! machine after the host's boot is that proof; the outcome is recorded.

mod cache;
mod choose;
mod fence;
mod probe;
mod tsc;

pub use cache::record;
pub use choose::{Accel, Choice, UnknownAccel, Unusable, Verdict, choose, summary};
pub use tsc::{recorded_tsc_khz, tsc_khz};
