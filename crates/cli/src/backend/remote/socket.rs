//! The streams of a process over a WebSocket. Binary messages are data, and their first byte is the channel; text messages
//! are JSON.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use mimeo_agent_protocol::message::{Input, channel};
use mimeo_manager_api::stream::{ClientMessage, ServerMessage};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Method, StatusCode, Upgraded};
use serde::Serialize;
use tokio::sync::{Mutex, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::error::RemoteError;
use super::http::Http;
use crate::backend::{ProcessInput, ProcessItem, ProcessOutput, ProcessStream};
use crate::stdio::ClientError;

type Socket = WebSocketStream<Upgraded>;
type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

/// A process that has started, or that this client is attached to.
pub(super) struct RemoteProcess {
    /// Its id in the guest, unless it is the container's own.
    pub(super) pid: Option<u32>,
    pub(super) stream: ProcessStream,
    /// Its exit code.
    pub(super) exit: oneshot::Receiver<i32>,
}

/// Requests a process at this path, and waits until it has started.
pub(super) async fn open(
    http: &Http,
    path: &str,
    request: &(impl Serialize + Sync),
) -> Result<RemoteProcess, RemoteError> {
    let mut socket = connect(http, path).await?;
    let json = serde_json::to_string(request).map_err(|error| http.answer(error.to_string()))?;
    socket.send(Message::text(json)).await.map_err(|error| lost(http.address(), &error))?;
    let pid = started(http, &mut socket).await?;
    let (sink, messages) = socket.split();
    let (report, exit) = oneshot::channel();
    let sink = Arc::new(Mutex::new(sink));
    let output = SocketOutput { messages, address: http.address().to_owned(), report: Some(report) };
    let input = SocketInput { sink, address: http.address().to_owned() };
    Ok(RemoteProcess {
        pid,
        stream: ProcessStream { input: Box::new(input), output: Box::new(output) },
        exit,
    })
}

async fn connect(http: &Http, path: &str) -> Result<Socket, RemoteError> {
    let key = generate_key();
    let request = http
        .request(Method::GET, path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = http.send(request).await?;
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().to_vec());
    let is_accepted = accepted.as_deref() == Some(derive_accept_key(key.as_bytes()).as_bytes());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS || !is_accepted {
        return Err(http.answer("it does not speak the WebSocket protocol"));
    }
    let upgraded = response.upgrade().await.map_err(|source| http.unreachable(source))?;
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
}

/// Waits until the process has started; returns its id in the guest.
async fn started(http: &Http, socket: &mut Socket) -> Result<Option<u32>, RemoteError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(json))) => match parse(http.address(), &json)? {
                ServerMessage::Started { pid, .. } => return Ok(pid),
                ServerMessage::Error { problem } => return Err(problem.into()),
                ServerMessage::Exit { .. } => return Err(http.answer("a process exited before it started")),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err(http.answer("data of a process that has not started")),
            Some(Err(error)) => return Err(lost(http.address(), &error)),
            None => return Err(lost(http.address(), &Error::ConnectionClosed)),
        }
    }
}

fn parse(address: &str, json: &str) -> Result<ServerMessage, RemoteError> {
    serde_json::from_str(json)
        .map_err(|error| RemoteError::Answer { address: address.to_owned(), reason: error.to_string() })
}

fn lost(address: &str, error: &Error) -> RemoteError {
    RemoteError::Lost { address: address.to_owned(), reason: error.to_string() }
}

struct SocketInput {
    sink: Sink,
    address: String,
}

impl SocketInput {
    async fn message(&self, message: Message) -> Result<(), ClientError> {
        let sent = self.sink.lock().await.send(message).await;
        sent.map_err(|error| ClientError::Remote(lost(&self.address, &error)))
    }
}

#[async_trait]
impl ProcessInput for SocketInput {
    async fn send(&self, input: Input) {
        let message = match input {
            Input::Resize(size) => ClientMessage::Resize { rows: size.rows, columns: size.cols },
            Input::Signal { signal } => ClientMessage::Signal { signal },
        };
        if let Ok(json) = serde_json::to_string(&message) {
            // If the connection is lost, the output says so.
            self.message(Message::text(json)).await.ok();
        }
    }

    async fn write(&self, bytes: Bytes) -> Result<(), ClientError> {
        let mut data = BytesMut::with_capacity(bytes.len() + 1);
        data.put_u8(channel::STDIN);
        data.put(bytes);
        self.message(Message::binary(data)).await
    }
}

struct SocketOutput {
    messages: SplitStream<Socket>,
    address: String,
    /// Takes the exit.
    report: Option<oneshot::Sender<i32>>,
}

impl SocketOutput {
    /// The item of a message; `None` if it is nothing of the process's.
    fn item(&mut self, message: Message) -> Result<Option<ProcessItem>, ClientError> {
        match message {
            Message::Binary(mut data) if !data.is_empty() => {
                let bytes = data.split_off(1);
                let is_stderr = data.first() == Some(&channel::STDERR);
                Ok(Some(if is_stderr { ProcessItem::Stderr(bytes) } else { ProcessItem::Stdout(bytes) }))
            }
            Message::Text(json) => match parse(&self.address, &json).map_err(ClientError::Remote)? {
                ServerMessage::Exit { code, .. } => {
                    if let Some(report) = self.report.take() {
                        // Nobody may wait for it: that of `exec` is the item's.
                        report.send(code).ok();
                    }
                    Ok(Some(ProcessItem::Exited(code)))
                }
                ServerMessage::Error { problem } => Err(ClientError::Remote(problem.into())),
                ServerMessage::Started { .. } => Ok(None),
            },
            Message::Close(_) => Err(ClientError::Remote(lost(&self.address, &Error::ConnectionClosed))),
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl ProcessOutput for SocketOutput {
    async fn next(&mut self) -> Result<ProcessItem, ClientError> {
        loop {
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ClientError::Remote(lost(&self.address, &error))),
                None => return Err(ClientError::Remote(lost(&self.address, &Error::ConnectionClosed))),
            };
            if let Some(item) = self.item(message)? {
                return Ok(item);
            }
        }
    }
}
