//! What the manager keeps in memory only: it is gone when the manager ends.

mod keys_in_use;
mod notices;
mod operations;
mod pools;
mod rate_limits;
mod tokens_used;
mod turns;

pub(crate) use keys_in_use::KeysInUse;
pub(crate) use notices::{NOTICE, Notices};
pub(crate) use operations::{LiveOperation, LiveOperations};
pub(crate) use pools::{Pools, ServerStart};
pub(crate) use rate_limits::{RateLimits, UserSlot};
pub(crate) use tokens_used::{PRECISION, TokensUsed};
pub(crate) use turns::Turns;
