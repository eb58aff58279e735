//! QEMU's machine protocol: one JSON value a line, answers matched by id.

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

use crate::OperationError;

/// How long QEMU may take to answer: its main loop is never busy for long.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Result<Value, String>;
/// Who waits for which answer; nobody any more when QEMU is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// A session with QEMU's monitor.
#[derive(Debug)]
pub(super) struct Qmp {
    commands: mpsc::UnboundedSender<String>,
    waiting: Waiting,
    next: AtomicU64,
}

/// A line from QEMU that answers a command; greetings and events have no id.
#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    #[serde(rename = "return")]
    done: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Begins a session. QEMU takes commands only after `qmp_capabilities`,
    /// which is queued here, so nobody waits for the greeting.
    pub(super) fn greet(socket: UnixStream) -> Self {
        let qmp = Self::resume(socket);
        qmp.send("qmp_capabilities", &json!({}), 0);
        qmp
    }

    /// Goes on with a session of which QEMU does not know that its other end is new.
    pub(super) fn resume(socket: UnixStream) -> Self {
        let (reader, mut writer) = socket.into_split();
        let (commands, mut queue) = mpsc::unbounded_channel::<String>();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(read(reader, waiting.clone()));
        tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                if writer.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Self { commands, waiting, next: AtomicU64::new(1) }
    }

    /// Has QEMU do `command`.
    pub(super) async fn call(&self, command: &str, arguments: Value) -> Result<Value, OperationError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let Some(()) = lock(&self.waiting).as_mut().map(|waiting| drop(waiting.insert(id, sender))) else {
            return Err(OperationError::Gone);
        };
        self.send(command, &arguments, id);
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(message))) => Err(OperationError::Refused { command: command.to_owned(), message }),
            Ok(Err(_)) => Err(OperationError::Gone),
            Err(_) => {
                Err(OperationError::Silent { command: command.to_owned(), seconds: PATIENCE.as_secs() })
            }
        }
    }

    fn send(&self, command: &str, arguments: &Value, id: u64) {
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        // When QEMU is gone the reader drops all that wait for answers.
        self.commands.send(format!("{line}\n")).ok();
    }
}

async fn read(reader: OwnedReadHalf, waiting: Waiting) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(Line { id: Some(id), done, error }) = serde_json::from_str(&line) else {
            tracing::trace!(line, "from the monitor");
            continue;
        };
        let Some(sender) = lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&id)) else { continue };
        let answer = error.map_or_else(|| Ok(done.unwrap_or_default()), |refusal| Err(refusal.desc));
        // Whoever asked may have lost patience.
        sender.send(answer).ok();
    }
    *lock(&waiting) = None;
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_find_who_asked_and_refusals_keep_their_words() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let qmp = Qmp::greet(ours);
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
        assert_eq!(refused.to_string(), "the monitor refused stop: not now");
        assert!(matches!(qmp.call("quit", json!({})).await, Err(OperationError::Gone)));
        // And whoever asks later does not wait for an answer.
        let late = tokio::time::timeout(Duration::from_secs(5), qmp.call("stop", json!({}))).await;
        assert!(matches!(late, Ok(Err(OperationError::Gone))), "{late:?}");
    }
}
