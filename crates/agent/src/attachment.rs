//! The link stream that carries a process's input and output. It may be replaced while the process runs.

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
    /// The machine's flag: whether the workload is frozen.
    frozen: Arc<watch::Sender<bool>>,
}

/// The receiving half of an attached stream. The sending half identifies the stream.
#[derive(Debug)]
pub(crate) struct AttachedInput {
    // Dropped first, so that a replaced stream ends before it is reset.
    sender: Arc<Sender>,
    pub(crate) receiver: Receiver,
}

/// The input of the attached streams, in the order in which they were attached.
pub(crate) type Inputs = mpsc::UnboundedReceiver<AttachedInput>;

/// The destination of the output.
#[derive(Debug, Clone)]
enum Consumer {
    /// This stream.
    Attached(Arc<Sender>),
    /// None: the host is gone, and output is discarded.
    Detached,
    /// None yet: the session ended while the workload was frozen, as it does in a
    /// clone. Output waits for the next stream to attach.
    AwaitingNext,
}

impl Attachment {
    /// An attachment without a stream.
    pub(crate) fn new(frozen: Arc<watch::Sender<bool>>) -> (Arc<Self>, Inputs) {
        let (input_sender, inputs) = mpsc::unbounded_channel();
        (Arc::new(Self { consumer: watch::Sender::new(Consumer::Detached), input_sender, frozen }), inputs)
    }

    /// Attaches `stream` in place of any other.
    pub(crate) fn attach(&self, stream: Stream) {
        let Stream { sender, receiver } = stream;
        let sender = Arc::new(sender);
        // The receiver is gone when the process has ended, which then needs no input.
        self.input_sender.send(AttachedInput { sender: sender.clone(), receiver }).ok();
        self.consumer.send_replace(Consumer::Attached(sender));
    }

    /// Sends a reply to the attached stream, if there is one.
    pub(crate) fn send_reply(&self, reply: &Reply) {
        if let Consumer::Attached(sender) = &*self.consumer.borrow() {
            sender.message(reply);
        }
    }

    /// Sends output to the attached stream. Discards it, or waits for the next stream, if there is none.
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
                    // Another stream was attached: it gets what was not sent.
                    _ = consumer.changed() => {}
                },
                Consumer::Detached => return,
                Consumer::AwaitingNext => drop(consumer.changed().await),
            }
        }
    }

    /// Detaches the stream if its session is over.
    pub(crate) fn end_session(&self) {
        let current_consumer = self.consumer.borrow().clone();
        if let Consumer::Attached(sender) = current_consumer
            && sender.session_over()
        {
            self.detach(&sender);
        }
    }

    /// Detaches the stream and discards all further output.
    pub(crate) fn close(&self) {
        self.consumer.send_replace(Consumer::Detached);
    }

    /// Detaches the stream of an input that has ended. True when another stream is or will be attached.
    pub(crate) fn input_ended(&self, input: &AttachedInput) -> bool {
        self.detach(&input.sender);
        !matches!(*self.consumer.borrow(), Consumer::Detached)
    }

    /// Detaches `sender`, unless another stream has replaced it.
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
