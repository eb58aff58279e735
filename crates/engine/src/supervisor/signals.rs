//! The signals that a supervisor handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) const SIGHUP: i32 = 1;
pub(super) const SIGINT: i32 = 2;
pub(super) const SIGTERM: i32 = 15;

/// The signals of a supervisor: those that end the machine, and those that are only forwarded to the
/// container.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that ends the machine.
    pub(super) async fn interruption(&mut self) -> i32 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => SIGINT,
            Some(()) = self.terminate.recv() => SIGTERM,
            Some(()) = self.hangup.recv() => SIGHUP,
            Some(()) = self.quit.recv() => 3,
        }
    }

    /// The next signal of any kind.
    pub(super) async fn any(&mut self) -> i32 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => SIGINT,
            Some(()) = self.terminate.recv() => SIGTERM,
            Some(()) = self.hangup.recv() => SIGHUP,
            Some(()) = self.quit.recv() => 3,
            Some(()) = self.user1.recv() => 10,
            Some(()) = self.user2.recv() => 12,
        }
    }
}
