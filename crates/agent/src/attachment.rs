//! To whom a process's streams go, which may change while it runs.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Receiver, Sender, Stream};
use mimeo_agent_protocol::message::Reply;
use tokio::sync::{mpsc, watch};

/// Where a process's output goes, and where its input comes from.
#[derive(Debug)]
pub(crate) struct Attachment {
    consumer: watch::Sender<Consumer>,
    input_sender: mpsc::UnboundedSender<AttachedInput>,
    /// The machine's: the workload is held still.
    frozen: Arc<watch::Sender<bool>>,
}

/// The half of a stream that brings input, with a mark of the other half.
#[derive(Debug)]
pub(crate) struct AttachedInput {
    // Dropped first, so that a stream that another replaces ends in good order.
    sender: Arc<Sender>,
    pub(crate) receiver: Receiver,
}

/// The streams that come to be attached, in order.
pub(crate) type Inputs = mpsc::UnboundedReceiver<AttachedInput>;

/// Who takes the output.
#[derive(Debug, Clone)]
enum Consumer {
    /// This stream.
    Attached(Arc<Sender>),
    /// Nobody: the host has left, and what comes goes nowhere.
    Detached,
    /// Nobody yet: the session ended while the workload was frozen, as it does
    /// in a copy. What comes waits for the next to attach.
    AwaitingNext,
}

impl Attachment {
    /// An outlet that nobody is attached to.
    pub(crate) fn new(frozen: Arc<watch::Sender<bool>>) -> (Arc<Self>, Inputs) {
        let (input_sender, inputs) = mpsc::unbounded_channel();
        (Arc::new(Self { consumer: watch::Sender::new(Consumer::Detached), input_sender, frozen }), inputs)
    }

    /// Makes `stream` the one that has everything from now on.
    pub(crate) fn attach(&self, stream: Stream) {
        let Stream { sender, receiver } = stream;
        let sender = Arc::new(sender);
        // Whoever takes inlets goes with the process, which then needs no input.
        self.input_sender.send(AttachedInput { sender: sender.clone(), receiver }).ok();
        self.consumer.send_replace(Consumer::Attached(sender));
    }

    /// Tells something to whoever is attached.
    pub(crate) fn send_reply(&self, reply: &Reply) {
        if let Consumer::Attached(sender) = &*self.consumer.borrow() {
            sender.message(reply);
        }
    }

    /// Sends output, when there is somebody to take it.
    pub(crate) async fn send(&self, channel: u8, bytes: Bytes) {
        let mut consumer = self.consumer.subscribe();
        loop {
            let current_consumer = consumer.borrow_and_update().clone();
            match current_consumer {
                Consumer::Attached(sender) => tokio::select! {
                    sent = sender.data(channel, bytes.clone()) => match sent {
                        Ok(()) => return,
                        Err(_) => self.detach(&sender),
                    },
                    // What was not sent to the former is for the next.
                    _ = consumer.changed() => {}
                },
                Consumer::Detached => return,
                Consumer::AwaitingNext => drop(consumer.changed().await),
            }
        }
    }

    /// The session is over: whoever was attached in it is gone.
    pub(crate) fn end_session(&self) {
        let current_consumer = self.consumer.borrow().clone();
        if let Consumer::Attached(sender) = current_consumer
            && sender.session_over()
        {
            self.detach(&sender);
        }
    }

    /// Nobody will attach any more.
    pub(crate) fn close(&self) {
        self.consumer.send_replace(Consumer::Detached);
    }

    /// The stream of this input has come to its end. True when another is to be waited for.
    pub(crate) fn input_ended(&self, input: &AttachedInput) -> bool {
        self.detach(&input.sender);
        !matches!(*self.consumer.borrow(), Consumer::Detached)
    }

    /// `sender` reaches nobody any more; another may have taken its place by now.
    fn detach(&self, sender: &Arc<Sender>) {
        let keep_output = sender.session_over() && *self.frozen.borrow();
        self.consumer.send_if_modified(|consumer| match consumer {
            Consumer::Attached(current) if Arc::ptr_eq(current, sender) => {
                *consumer = if keep_output { Consumer::AwaitingNext } else { Consumer::Detached };
                true
            }
            _ => false,
        });
    }
}
