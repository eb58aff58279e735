//! QMP, the QEMU Machine Protocol: one JSON value per line, answers matched by id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use crate::{DiskError, OperationError};

/// Timeout for an answer: QEMU's main loop is never busy for long.
const QMP_TIMEOUT: Duration = Duration::from_secs(20);

type Answer = Result<Value, String>;
/// The senders that wait for answers, by id. None after QEMU has exited.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// A QMP session.
#[derive(Debug)]
pub(super) struct Qmp {
    commands: mpsc::UnboundedSender<String>,
    pending: Pending,
    next_id: AtomicU64,
    /// Disk errors that pause the machine, until they are taken.
    pub(super) disk_errors: Option<mpsc::Receiver<DiskError>>,
}

/// A message from QEMU. Only answers to commands have an id; greetings and events have none.
#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<QmpError>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

/// The event of a failed request to a disk.
const DISK_ERROR_EVENT: &str = "BLOCK_IO_ERROR";

#[derive(Deserialize)]
struct QmpError {
    desc: String,
}

impl Qmp {
    /// Starts a session. QEMU accepts commands only after `qmp_capabilities`, which is queued here, so there
    /// is no wait for the greeting.
    pub(super) fn connect(socket: UnixStream) -> Self {
        let qmp = Self::attach(socket);
        qmp.send("qmp_capabilities", &json!({}), 0);
        qmp
    }

    /// Takes over an established session: a restored QEMU does not know that its peer is new.
    pub(super) fn attach(socket: UnixStream) -> Self {
        let (reader, mut writer) = socket.into_split();
        let (commands, mut queue) = mpsc::unbounded_channel::<String>();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        // Several requests fail at once: one error stands for all.
        let (error_sender, disk_errors) = mpsc::channel(1);
        tokio::spawn(read_messages(reader, pending.clone(), error_sender));
        tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                if writer.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Self { commands, pending, next_id: AtomicU64::new(1), disk_errors: Some(disk_errors) }
    }

    /// Executes `command` in QEMU.
    pub(super) async fn call(&self, command: &str, arguments: Value) -> Result<Value, OperationError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let Some(()) = lock(&self.pending).as_mut().map(|pending| drop(pending.insert(id, sender))) else {
            return Err(OperationError::Gone);
        };
        self.send(command, &arguments, id);
        match tokio::time::timeout(QMP_TIMEOUT, answer).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(message))) => Err(OperationError::Refused { command: command.to_owned(), message }),
            Ok(Err(_)) => Err(OperationError::Gone),
            Err(_) => {
                Err(OperationError::Timeout { command: command.to_owned(), seconds: QMP_TIMEOUT.as_secs() })
            }
        }
    }

    fn send(&self, command: &str, arguments: &Value, id: u64) {
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        // If QEMU has exited, the reader drops all pending senders, and the caller gets an error.
        self.commands.send(format!("{line}\n")).ok();
    }
}

async fn read_messages(reader: OwnedReadHalf, pending: Pending, disk_errors: mpsc::Sender<DiskError>) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            tracing::trace!(line, "unknown QMP message");
            continue;
        };
        let Message { id: Some(id), result, error, .. } = message else {
            tracing::trace!(line, "QMP event");
            // A full channel holds an error already.
            disk_error(&message).map(|error| disk_errors.try_send(error));
            continue;
        };
        let Some(sender) = lock(&pending).as_mut().and_then(|pending| pending.remove(&id)) else { continue };
        let answer = error.map_or_else(|| Ok(result.unwrap_or_default()), |error| Err(error.desc));
        // The caller may have timed out.
        sender.send(answer).ok();
    }
    *lock(&pending) = None;
}

/// The disk error that paused the machine, if the message is one.
fn disk_error(message: &Message) -> Option<DiskError> {
    let Message { event: Some(event), data, .. } = message else { return None };
    let pauses = event == DISK_ERROR_EVENT && data["action"] == "stop";
    pauses.then(|| DiskError {
        no_space: data["nospace"].as_bool().unwrap_or_default(),
        reason: data["reason"].as_str().unwrap_or("unknown reason").to_owned(),
    })
}

fn lock(pending: &Pending) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_matched_by_id_and_errors_are_passed_on() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let qmp = Qmp::connect(ours);
        tokio::spawn(async move {
            let (reader, mut writer) = theirs.into_split();
            writer.write_all(b"{\"QMP\": {}}\n{\"event\": \"STOP\"}\n").await.expect("writes");
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let command: Value = serde_json::from_str(&line).expect("JSON");
                let id = &command["id"];
                let answer = match command["execute"].as_str() {
                    Some("stop") => json!({ "id": id, "error": { "class": "x", "desc": "not now" } }),
                    Some("quit") => return,
                    _ => json!({ "id": id, "return": { "ok": true } }),
                };
                writer.write_all(format!("{answer}\n").as_bytes()).await.expect("writes");
            }
        });
        assert_eq!(qmp.call("query-status", json!({})).await.expect("answer")["ok"], true);
        let refused = qmp.call("stop", json!({})).await.expect_err("refused");
        assert_eq!(refused.to_string(), "the VMM refused stop: not now");
        assert!(matches!(qmp.call("quit", json!({})).await, Err(OperationError::Gone)));
        // A later call does not wait for an answer.
        let late = tokio::time::timeout(Duration::from_secs(5), qmp.call("stop", json!({}))).await;
        assert!(matches!(late, Ok(Err(OperationError::Gone))), "{late:?}");
    }

    #[test]
    fn only_disk_errors_that_pause_are_reported() {
        let parse = |action: &str| {
            let data = json!({ "action": action, "nospace": true, "reason": "No space left on device" });
            let line = json!({ "event": "BLOCK_IO_ERROR", "data": data, "timestamp": {} }).to_string();
            disk_error(&serde_json::from_str(&line).expect("a message"))
        };
        let expected = DiskError { no_space: true, reason: "No space left on device".to_owned() };
        assert_eq!(parse("stop"), Some(expected));
        assert_eq!(parse("report"), None);
        assert_eq!(disk_error(&serde_json::from_str("{\"event\": \"STOP\"}").expect("a message")), None);
    }
}
