//! The events of a manager's machines, as podman names them: pages of those that are stored, then server-sent events.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mimeo_engine::Event;
use mimeo_manager_api as api;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response};

use super::RemoteBackend;
use super::error::RemoteError;
use super::http::NO_BODY;
use crate::backend::EventReader;
use crate::error::CliError;

/// Events in a page.
const PAGE: usize = 1000;
/// podman's words for the kinds of events. Those of other kinds are the manager's own.
const ACTIONS: [(&str, &str); 9] = [
    ("machine.created", "create"),
    ("machine.running", "start"),
    ("machine.exec", "exec"),
    ("machine.paused", "pause"),
    ("machine.stopping", "stop"),
    ("machine.restarting", "restart"),
    ("machine.exited", "died"),
    ("machine.failed", "died"),
    ("machine.deleted", "remove"),
];

/// Events of a manager.
pub(super) struct RemoteEvents {
    remote: RemoteBackend,
    /// The events that are stored.
    past: Vec<Event>,
    response: Response,
    /// What was received and not parsed yet.
    received: Vec<u8>,
}

impl RemoteEvents {
    /// Reads the stored events if `past`, and begins to follow.
    pub(super) async fn open(remote: &RemoteBackend, past: bool) -> Result<Self, RemoteError> {
        let (past, after) = if past { stored(remote).await? } else { (Vec::new(), None) };
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let request = remote.http.request(Method::GET, &format!("/v1/events{after}"));
        let response = remote.http.send(request.header(ACCEPT, "text/event-stream")).await?;
        Ok(Self { remote: remote.clone(), past, response, received: Vec::new() })
    }
}

/// The stored events, and the number of the last one.
async fn stored(remote: &RemoteBackend) -> Result<(Vec<Event>, Option<i64>), RemoteError> {
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let path = format!("/v1/events?limit={PAGE}&after={}", after.unwrap_or(0));
        let page: api::EventList = remote.http.call(Method::GET, &path, NO_BODY).await?;
        after = page.items.last().map(|event| event.seq).or(after);
        events.extend(page.items.iter().filter_map(podman_event));
        if page.next_cursor.is_none() {
            return Ok((events, after));
        }
    }
}

impl RemoteEvents {
    /// The problem with which the manager ends the stream, for example because the token has expired.
    fn failure(&self, data: &str, error: &serde_json::Error) -> RemoteError {
        match serde_json::from_str::<api::Problem>(data) {
            Ok(problem) => problem.into(),
            Err(_) => self.remote.http.answer(error.to_string()),
        }
    }
}

#[async_trait]
impl EventReader for RemoteEvents {
    async fn past(&mut self) -> Result<Vec<Event>, CliError> {
        Ok(std::mem::take(&mut self.past))
    }

    async fn next(&mut self) -> Result<Vec<Event>, CliError> {
        let chunk = self.response.chunk().await;
        match chunk.map_err(|source| self.remote.http.unreachable(source))? {
            Some(chunk) => self.received.extend(chunk.iter().filter(|byte| **byte != b'\r')),
            None => return Err(self.remote.http.answer("the stream of events has ended").into()),
        }
        let mut events = Vec::new();
        while let Some(data) = take_data(&mut self.received) {
            match serde_json::from_str(&data) {
                Ok(event) => events.extend(podman_event(&event)),
                Err(error) => return Err(self.failure(&data, &error).into()),
            }
        }
        Ok(events)
    }
}

/// The event as this host's machines have it; `None` if podman has none of the kind.
fn podman_event(event: &api::Event) -> Option<Event> {
    let (_, action) = ACTIONS.iter().find(|(kind, _)| *kind == event.kind)?;
    let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
    let code = event.data["exit_code"].as_i64().filter(|_| *action == "died");
    Some(Event {
        time: event.time,
        action: (*action).to_owned(),
        id: event.resource.id.clone(),
        name: text("name"),
        image: text("image"),
        attributes: code
            .map(|code| ("exit_code".to_owned(), code.to_string()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

/// Takes the data of the first server-sent event that is complete and has data: a comment has none.
fn take_data(received: &mut Vec<u8>) -> Option<String> {
    loop {
        let end = received.windows(2).position(|pair| pair == b"\n\n")? + 2;
        let message: Vec<u8> = received.drain(..end).collect();
        let text = String::from_utf8_lossy(&message);
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<_> = data.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        if !data.is_empty() {
            return Some(data.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_taken_when_they_are_complete() {
        let mut received = b": comment\n\nid: 1\nevent: x\ndata: {\"a\":\ndata: 1}\n\ndata: x".to_vec();
        assert_eq!(take_data(&mut received).as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(take_data(&mut received), None);
        received.extend(b"\n\n: keep alive\n\n");
        assert_eq!(take_data(&mut received).as_deref(), Some("x"));
        assert_eq!(take_data(&mut received), None);
        assert!(received.is_empty());
    }

    #[test]
    fn events_have_podmans_names() {
        let event = |kind: &str| {
            let json = serde_json::json!({
                "seq": 1, "time": "2026-01-31T12:00:00Z", "kind": kind, "actor": "a", "owner": "a", "digest": "",
                "resource": {"kind": "machine", "id": "0123"}, "data": {"name": "web", "exit_code": 3},
            });
            podman_event(&serde_json::from_value(json).expect("an event"))
        };
        let died = event("machine.exited").expect("an event");
        assert_eq!((died.action.as_str(), died.name.as_str(), died.id.as_str()), ("died", "web", "0123"));
        assert_eq!(died.attributes["exit_code"], "3");
        assert!(event("machine.running").expect("an event").attributes.is_empty());
        assert!(event("operation.failed").is_none());
    }
}
