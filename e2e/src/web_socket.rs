//! A client of the manager's WebSockets.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::{HeaderValue, Response};
use tungstenite::{Error, Message, WebSocket};

use crate::Client;

/// How long the manager may take to send the next message.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The manager's answer to a handshake.
pub type Handshake = Response<Option<Vec<u8>>>;

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    socket: WebSocket<TcpStream>,
    /// What was received on the channels of standard output and standard error.
    pub output: [Vec<u8>; 2],
    /// What was received of a console.
    pub console: Vec<u8>,
}

impl Socket {
    /// Opens a WebSocket with the client's token.
    #[must_use]
    pub fn open(client: &Client, path: &str) -> Self {
        let bearer = format!("Bearer {}", client.token());
        Self::open_with(client, path, &[("authorization", &bearer)])
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .0
    }

    /// Opens a WebSocket with these headers. Returns the answer, too.
    ///
    /// # Errors
    /// If the manager refuses.
    pub fn open_with(
        client: &Client,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Handshake), Box<Error>> {
        let address = client.url().strip_prefix("http://").expect("HTTP");
        let mut request = format!("ws://{address}{path}").into_client_request().map_err(Box::new)?;
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let stream = TcpStream::connect(address).expect("the manager listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("set");
        let opened = tungstenite::client(request, stream).map_err(|error| match error {
            tungstenite::HandshakeError::Failure(error) => Box::new(error),
            tungstenite::HandshakeError::Interrupted(_) => panic!("{path}: the handshake took too long"),
        });
        opened.map(|(socket, answer)| {
            (Self { socket, output: [Vec::new(), Vec::new()], console: Vec::new() }, answer)
        })
    }

    /// Sends text.
    pub fn text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::Text(text.into().into())).expect("sent");
    }

    /// Sends JSON.
    pub fn json(&mut self, message: &Value) {
        self.text(message.to_string());
    }

    /// Sends data on channel 0; none is the end of the input.
    pub fn stdin(&mut self, bytes: &[u8]) {
        self.binary([&[0], bytes].concat());
    }

    /// Sends a binary message.
    pub fn binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::Binary(bytes.into())).expect("sent");
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// The code with which the manager has closed the WebSocket.
    pub fn receive(&mut self) -> Result<Message, u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(frame)) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Ok(message) => return Ok(message),
                Err(error) => panic!("no message: {error}: {:?}", self.text_output()),
            }
        }
    }

    /// Reads the next text message; collects the data before it.
    pub fn message(&mut self) -> Value {
        loop {
            match self.receive() {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
                Ok(Message::Binary(bytes)) => self.collect(&bytes),
                other => panic!("no text message: {other:?}: {:?}", self.text_output()),
            }
        }
    }

    /// Reads the next text message; collects the console's output before it.
    pub fn console_message(&mut self) -> Value {
        loop {
            match self.receive() {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
                Ok(Message::Binary(bytes)) => self.console.extend_from_slice(&bytes),
                other => panic!("no text message: {other:?}"),
            }
        }
    }

    /// Reads data until standard output contains this text.
    pub fn read_until(&mut self, end: &str) {
        while !self.text_output().0.contains(end) {
            match self.receive() {
                Ok(Message::Binary(bytes)) => self.collect(&bytes),
                other => panic!("{end:?} is not printed: {other:?}: {:?}", self.text_output()),
            }
        }
    }

    /// Reads the manager's close, and returns its code.
    pub fn closed(&mut self) -> u16 {
        self.receive().expect_err("no more messages")
    }

    /// The output as text.
    #[must_use]
    pub fn text_output(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&self.output[0]), text(&self.output[1]))
    }

    fn collect(&mut self, message: &[u8]) {
        let (channel, bytes) = message.split_first().expect("a channel");
        self.output[usize::from(*channel) - 1].extend_from_slice(bytes);
    }
}
