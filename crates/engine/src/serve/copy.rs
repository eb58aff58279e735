//! A copy of a server's, and what is held for it.

use super::pages::Lease;
use crate::order::{CloneInfo, Order};
use crate::supervisor_process::{Child, SpawnError};

/// A copy that lives, with its hold of the page server that gives it its memory.
#[derive(Debug)]
pub(super) struct Copy {
    // Dropped in this order: nobody waits for pages of a server that is gone.
    pub(super) child: Child,
    pages: Option<Lease>,
}

/// A copy that is asked for.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) pages: Option<Lease>,
}

impl Ordered {
    /// Makes it, and waits until it holds or runs.
    pub(super) async fn start(self) -> Result<(Copy, CloneInfo), SpawnError> {
        let Self { order, pages } = self;
        let mut copy = Copy { child: Child::start(&order).await?, pages };
        let info = copy.child.ready().await?;
        Ok((copy, info))
    }
}

impl Copy {
    /// Gives it up, and waits until nothing is left of it.
    pub(super) async fn abandon(self) {
        let Self { child, pages } = self;
        child.abandon().await;
        drop(pages);
    }
}
