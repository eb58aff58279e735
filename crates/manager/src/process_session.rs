//! A process in a machine over a WebSocket: its streams, its terminal and its exit.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Input, Reply, TerminalSize, channel};
use mimeo_manager_api::Problem;
use mimeo_manager_api::stream::{ClientMessage, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::App;
use crate::api_error::ApiError;
use crate::exec_process::connection_lost;
use crate::http::web_socket::{Gone, Reader, Received, WebSocket, Writer, close};
use crate::run_command::time_over;

/// Bytes of input in one piece.
const CHUNK_BYTES: usize = 32 * 1024;
/// Pieces of input that wait for the process to read them: signals and sizes of the terminal that come after them
/// overtake them.
const MAX_CHUNKS: usize = 32;
/// Linux's number of SIGKILL.
const SIGKILL: i32 = 9;
/// The number of the last signal.
const MAX_SIGNAL: i32 = 64;

/// What a session needs besides its streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionOptions {
    /// Forward the client's input.
    pub(crate) stdin: bool,
    /// When the process is killed.
    pub(crate) deadline: Option<Instant>,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// The process has ended.
    Exited {
        /// How.
        status: ExitStatus,
        /// It was killed because its time was over.
        timed_out: bool,
    },
    /// The request failed, or the connection was lost.
    Failed(Box<Problem>),
    /// The client is gone. A process with a terminal has received SIGHUP, another one continues, as with `mimeo exec`.
    ClientGone,
    /// The manager ends.
    ManagerEnds,
}

/// Forwards a process's streams until it has ended.
pub(crate) async fn run(
    app: &App,
    socket: &mut WebSocket,
    stream: Stream,
    options: SessionOptions,
) -> SessionEnd {
    let Stream { sender, mut receiver } = stream;
    let WebSocket { writer, reader } = socket;
    let (queue, chunks) = mpsc::channel(MAX_CHUNKS);
    let output = forward_output(writer, &mut receiver, &sender, options.deadline);
    tokio::select! {
        end = output => end.unwrap_or(SessionEnd::ClientGone),
        end = read_client(reader, queue, &sender, options.stdin) => end,
        never = forward_input(chunks, &sender) => never,
        () = app.end().cancelled() => SessionEnd::ManagerEnds,
    }
}

/// Tells the client how the session ended, and closes the WebSocket.
pub(crate) async fn finish(mut socket: WebSocket, end: SessionEnd) {
    let (message, code, reason) = match end {
        SessionEnd::Exited { status, timed_out } => {
            let message = ServerMessage::Exit { code: status.shell_code(), timed_out };
            (message, close::NORMAL, String::new())
        }
        SessionEnd::Failed(problem) => {
            let (code, reason) = (close::PROBLEM + problem.status, problem.code.clone());
            (ServerMessage::Error { problem: *problem }, code, reason)
        }
        SessionEnd::ManagerEnds => return socket.close(close::GOING_AWAY, "the manager ends").await,
        SessionEnd::ClientGone => return,
    };
    if socket.writer.json(&message).await.is_ok() {
        socket.close(code, &reason).await;
    }
}

async fn forward_output(
    writer: &mut Writer,
    receiver: &mut Receiver,
    sender: &Sender,
    deadline: Option<Instant>,
) -> Result<SessionEnd, Gone> {
    let mut deadline = deadline;
    let mut timed_out = false;
    loop {
        let next = async {
            tokio::select! {
                item = receiver.next() => Some(item),
                () = time_over(deadline) => None,
            }
        };
        let item = match writer.ping_during(next).await? {
            Some(Ok(Some(item))) => item,
            Some(Ok(None)) => return Ok(failed(&connection_lost(&LinkError::Closed))),
            Some(Err(error)) => return Ok(failed(&connection_lost(&error))),
            None => {
                (deadline, timed_out) = (None, true);
                sender.message(&Input::Signal { signal: SIGKILL });
                continue;
            }
        };
        match item {
            // The end of a channel; the exit follows.
            Item::Data { bytes, .. } if bytes.is_empty() => {}
            Item::Data { channel, bytes } => writer.data(channel, &bytes).await?,
            Item::Message(json) => match serde_json::from_slice(&json) {
                Ok(Reply::Exited { status }) => return Ok(SessionEnd::Exited { status, timed_out }),
                Ok(Reply::Failed(failure)) => {
                    return Ok(failed(&ApiError::new(409, "detached", failure.to_string())));
                }
                _ => {}
            },
        }
    }
}

fn failed(error: &ApiError) -> SessionEnd {
    SessionEnd::Failed(Box::new(error.problem().clone()))
}

/// Reads the client's messages until it is gone.
async fn read_client(
    reader: &mut Reader,
    queue: mpsc::Sender<Bytes>,
    sender: &Sender,
    stdin: bool,
) -> SessionEnd {
    loop {
        let handled = match reader.next().await {
            Ok(Received::Binary(bytes)) => queue_input(bytes, &queue, stdin).await,
            Ok(Received::Text(text)) => match input(&text) {
                // The write budget bounds what a client can queue.
                Ok(input) => sender.raw_message(input).await.map_err(|error| connection_lost(&error)),
                Err(error) => Err(error),
            },
            Err(Gone) => return SessionEnd::ClientGone,
        };
        if let Err(error) = handled {
            return failed(&error);
        }
    }
}

/// The agent's message for a client's.
fn input(text: &str) -> Result<Bytes, ApiError> {
    let invalid = |detail: String| ApiError::new(400, "invalid-message", detail);
    let message = serde_json::from_str(text);
    let input = match message.map_err(|error| invalid(format!("cannot read a text message: {error}")))? {
        ClientMessage::Resize { rows, columns } => Input::Resize(TerminalSize { rows, cols: columns }),
        ClientMessage::Signal { signal: signal @ 1..=MAX_SIGNAL } => Input::Signal { signal },
        ClientMessage::Signal { signal } => {
            return Err(invalid(format!("the signal {signal} is not between 1 and {MAX_SIGNAL}")));
        }
    };
    // Numbers: serialization cannot fail.
    Ok(serde_json::to_vec(&input).unwrap_or_default().into())
}

async fn queue_input(mut bytes: Bytes, queue: &mpsc::Sender<Bytes>, stdin: bool) -> Result<(), ApiError> {
    let invalid = |detail: &str| Err(ApiError::new(400, "invalid-message", detail));
    if bytes.is_empty() || bytes.split_to(1)[0] != channel::STDIN {
        return invalid("a binary message does not begin with the channel of standard input, 0");
    }
    if !stdin {
        return if bytes.is_empty() { Ok(()) } else { invalid("standard input is not forwarded") };
    }
    loop {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        // The receiver lives as long as the session.
        queue.send(chunk).await.ok();
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Forwards input as fast as the process reads it. Never returns.
async fn forward_input<T>(mut chunks: mpsc::Receiver<Bytes>, sender: &Sender) -> T {
    while let Some(chunk) = chunks.recv().await {
        // A process that has exited reads nothing; its exit follows.
        sender.data(channel::STDIN, chunk).await.ok();
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_messages_are_checked() {
        let text = |text| input(text).map(|json| String::from_utf8_lossy(&json).into_owned());
        assert_eq!(
            text(r#"{"type":"resize","rows":2,"columns":3}"#).ok().as_deref(),
            Some(r#"{"input":"resize","rows":2,"cols":3}"#)
        );
        assert_eq!(
            text(r#"{"type":"signal","signal":15}"#).ok().as_deref(),
            Some(r#"{"input":"signal","signal":15}"#)
        );
        for bad in [
            "",
            "{}",
            r#"{"type":"signal","signal":0}"#,
            r#"{"type":"signal","signal":65}"#,
            r#"{"type":"x"}"#,
        ] {
            let error = text(bad).expect_err(bad);
            assert_eq!((error.problem().status, &*error.problem().code), (400, "invalid-message"), "{bad}");
        }
    }

    #[tokio::test]
    async fn input_is_queued_in_pieces() {
        let (queue, mut chunks) = mpsc::channel(8);
        let message = [&[0][..], &vec![7; CHUNK_BYTES + 1]].concat();
        queue_input(message.into(), &queue, true).await.expect("queued");
        queue_input(vec![0].into(), &queue, true).await.expect("queued");
        queue_input(vec![0].into(), &queue, false).await.expect("the end of no input");
        for (bytes, stdin) in [(vec![], true), (vec![1, 2], true), (vec![0, 2], false)] {
            queue_input(bytes.into(), &queue, stdin).await.expect_err("refused");
        }
        drop(queue);
        let mut lengths = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            lengths.push(chunk.len());
        }
        assert_eq!(lengths, [CHUNK_BYTES, 1, 0]);
    }
}
