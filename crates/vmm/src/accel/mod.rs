//! Can this host run a stock kernel with hardware acceleration?
//!
//! That `/dev/kvm` opens proves little: a nested, paravirtual KVM creates VMs
//! and vCPUs, then interprets a kernel instruction by instruction until it
//! meets one that it does not know. So a scratch VM runs some millions of
//! instructions, with those among them that such hosts fail on, under a
//! deadline, and only its result is believed.

mod cache;
mod decide;
mod fence;
mod guest;
mod machine;
mod proof;
mod tsc;

pub use decide::{Accel, AccelError, Acceleration, Why, decide};
pub use guest::Stage;
pub use proof::prove;
pub use tsc::{kept_tsc_khz, tsc_khz};
