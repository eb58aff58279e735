//! Signals that end mimeo, for commands that must tidy up first.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for a signal that ends this process.
pub(crate) async fn interruption() -> i32 {
    Interruption::listen().received().await
}

/// From its creation on, the signals do not end the process by themselves.
#[derive(Debug)]
pub(crate) struct Interruption(Option<(Signal, Signal)>);

impl Interruption {
    /// Starts to listen.
    pub(crate) fn listen() -> Self {
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        match signals {
            (Ok(interrupt), Ok(terminate)) => Self(Some((interrupt, terminate))),
            _ => Self(None),
        }
    }

    /// Waits for the next signal.
    pub(crate) async fn received(&mut self) -> i32 {
        let Some((interrupt, terminate)) = &mut self.0 else {
            // Without handlers the signals keep their default action: they end mimeo.
            return std::future::pending().await;
        };
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        kind.as_raw_value()
    }
}
