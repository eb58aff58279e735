//! The events of a manager's machines: server-sent events.

use async_trait::async_trait;
use mimeo_engine::Event;
use reqwest::Response;

use super::RemoteBackend;
use crate::backend::EventReader;
use crate::error::CliError;

/// The name of the event that ends the stored ones.
const LIVE: &str = "live";

/// Events of a manager.
pub(super) struct RemoteEvents {
    pub(super) remote: RemoteBackend,
    pub(super) response: Response,
    /// What was received and not parsed yet.
    pub(super) received: Vec<u8>,
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    name: String,
    data: String,
}

impl RemoteEvents {
    /// Waits for the next message.
    async fn message(&mut self) -> Result<Message, CliError> {
        loop {
            if let Some(message) = take_message(&mut self.received) {
                return Ok(message);
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|source| self.remote.http.unreachable(source))? {
                Some(chunk) => self.received.extend(chunk.iter().filter(|byte| **byte != b'\r')),
                None => return Err(self.remote.http.answer("the stream of events has ended").into()),
            }
        }
    }

    fn parse(&self, message: &Message) -> Result<Event, CliError> {
        let parsed = serde_json::from_str(&message.data);
        Ok(parsed.map_err(|error| self.remote.http.answer(error.to_string()))?)
    }
}

#[async_trait]
impl EventReader for RemoteEvents {
    async fn past(&mut self) -> Result<Vec<Event>, CliError> {
        let mut events = Vec::new();
        loop {
            match self.message().await? {
                message if message.name == LIVE => return Ok(events),
                message if message.data.is_empty() => {}
                message => events.push(self.parse(&message)?),
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<Event>, CliError> {
        match self.message().await? {
            message if message.name == LIVE || message.data.is_empty() => Ok(Vec::new()),
            message => Ok(vec![self.parse(&message)?]),
        }
    }
}

/// Takes the first message, if it is complete. Comments are no part of it.
fn take_message(received: &mut Vec<u8>) -> Option<Message> {
    let end = received.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let bytes: Vec<u8> = received.drain(..end).collect();
    let mut message = Message::default();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut message.name),
            "data" if message.data.is_empty() => value.clone_into(&mut message.data),
            "data" => message.data.push_str(&format!("\n{value}")),
            _ => {}
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_when_they_are_complete() {
        let mut received =
            b": comment\n\nid: 1\nevent: container\ndata: {\"a\":\ndata: 1}\n\ndata: x".to_vec();
        let message = |name: &str, data: &str| Some(Message { name: name.to_owned(), data: data.to_owned() });
        assert_eq!(take_message(&mut received), message("", ""));
        assert_eq!(take_message(&mut received), message("container", "{\"a\":\n1}"));
        assert_eq!(take_message(&mut received), None);
        received.extend(b"\n\n");
        assert_eq!(take_message(&mut received), message("", "x"));
    }
}
