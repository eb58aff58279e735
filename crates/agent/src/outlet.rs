//! To whom a process's streams go, which may change while it runs.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Receiver, Sender, Stream};
use mimeo_agent_protocol::message::Reply;
use tokio::sync::{mpsc, watch};

/// Where a process's output goes, and where its input comes from.
#[derive(Debug)]
pub(crate) struct Outlet {
    host: watch::Sender<Host>,
    streams: mpsc::UnboundedSender<Inlet>,
    /// The machine's: the workload is held still.
    frozen: Arc<watch::Sender<bool>>,
}

/// The half of a stream that brings input, with a mark of the other half.
#[derive(Debug)]
pub(crate) struct Inlet {
    // Dropped first, so that a stream that another replaces ends in good order.
    sender: Arc<Sender>,
    pub(crate) receiver: Receiver,
}

/// The streams that come to be attached, in order.
pub(crate) type Inlets = mpsc::UnboundedReceiver<Inlet>;

/// Who takes the output.
#[derive(Debug, Clone)]
enum Host {
    /// This stream.
    Attached(Arc<Sender>),
    /// Nobody: the host has left, and what comes goes nowhere.
    Left,
    /// Nobody yet: the session ended while the workload was frozen, as it does
    /// in a copy. What comes waits for the next to attach.
    Lost,
}

impl Outlet {
    /// An outlet that nobody is attached to.
    pub(crate) fn new(frozen: Arc<watch::Sender<bool>>) -> (Arc<Self>, Inlets) {
        let (streams, inlets) = mpsc::unbounded_channel();
        (Arc::new(Self { host: watch::Sender::new(Host::Left), streams, frozen }), inlets)
    }

    /// Makes `stream` the one that has everything from now on.
    pub(crate) fn attach(&self, stream: Stream) {
        let Stream { sender, receiver } = stream;
        let sender = Arc::new(sender);
        // Whoever takes inlets goes with the process, which then needs no input.
        self.streams.send(Inlet { sender: sender.clone(), receiver }).ok();
        self.host.send_replace(Host::Attached(sender));
    }

    /// Tells something to whoever is attached.
    pub(crate) fn tell(&self, reply: &Reply) {
        if let Host::Attached(sender) = &*self.host.borrow() {
            sender.message(reply);
        }
    }

    /// Sends output, when there is somebody to take it.
    pub(crate) async fn send(&self, channel: u8, bytes: Bytes) {
        let mut host = self.host.subscribe();
        loop {
            let now = host.borrow_and_update().clone();
            match now {
                Host::Attached(sender) => tokio::select! {
                    sent = sender.data(channel, bytes.clone()) => match sent {
                        Ok(()) => return,
                        Err(_) => self.gone(&sender),
                    },
                    // What was not sent to the former is for the next.
                    _ = host.changed() => {}
                },
                Host::Left => return,
                Host::Lost => drop(host.changed().await),
            }
        }
    }

    /// The session is over: whoever was attached in it is gone.
    pub(crate) fn session_over(&self) {
        let now = self.host.borrow().clone();
        if let Host::Attached(sender) = now
            && sender.session_over()
        {
            self.gone(&sender);
        }
    }

    /// Nobody will attach any more.
    pub(crate) fn close(&self) {
        self.host.send_replace(Host::Left);
    }

    /// The stream of this input has come to its end. True when another is to be waited for.
    pub(crate) fn ended(&self, inlet: &Inlet) -> bool {
        self.gone(&inlet.sender);
        !matches!(*self.host.borrow(), Host::Left)
    }

    /// `sender` reaches nobody any more; another may have taken its place by now.
    fn gone(&self, sender: &Arc<Sender>) {
        let lost = sender.session_over() && *self.frozen.borrow();
        self.host.send_if_modified(|host| match host {
            Host::Attached(current) if Arc::ptr_eq(current, sender) => {
                *host = if lost { Host::Lost } else { Host::Left };
                true
            }
            _ => false,
        });
    }
}
