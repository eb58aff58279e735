//! What QEMU reports about a guest that does not answer.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::qmp::Qmp;
use crate::{Diagnostic, OperationError};

/// Time for all queries together. A QEMU whose main loop hangs answers none of them.
const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Register samples: one that differs from the next belongs to a vCPU that executes instructions.
const SAMPLES: u32 = 3;
/// Time between two register samples: several timer ticks of a guest.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// Queues queried of one virtio device: a serial device with two ports has six.
const MAX_QUEUES: u32 = 8;
/// Interrupt controllers and devices, by the monitor commands that print them.
const COMMANDS: [&str; 5] = ["info lapic", "info pic", "info irq", "info chardev", "info block"];

/// Queries QEMU. What it does not answer in time, or refuses, is reported as such.
pub(super) async fn diagnose(qmp: &Qmp) -> Vec<Diagnostic> {
    diagnose_until(qmp, Instant::now() + DIAGNOSE_TIMEOUT).await
}

async fn diagnose_until(qmp: &Qmp, end: Instant) -> Vec<Diagnostic> {
    let mut queries = Queries { qmp, end, reports: Vec::new() };
    queries.all().await;
    queries.reports
}

struct Queries<'a> {
    qmp: &'a Qmp,
    end: Instant,
    reports: Vec<Diagnostic>,
}

impl Queries<'_> {
    async fn all(&mut self) {
        self.qmp("query-status", json!({})).await;
        for sample in 1..=SAMPLES {
            self.hmp("info registers -a", &format!("registers-{sample}")).await;
            sleep(SAMPLE_INTERVAL).await;
        }
        for command in COMMANDS {
            self.hmp(command, &command.replace(' ', "-")).await;
        }
        // Since QEMU 7.2; the prefix says that it may change.
        let devices = self.qmp("x-query-virtio", json!({})).await;
        for device in devices.as_ref().and_then(Value::as_array).into_iter().flatten() {
            self.virtio(device).await;
        }
    }

    async fn virtio(&mut self, device: &Value) {
        let (path, name) = (&device["path"], device["name"].as_str().unwrap_or("device"));
        let mut text = String::new();
        for command in ["x-query-virtio-status", "x-query-virtio-queue-status"] {
            let queues = if command.ends_with("queue-status") { MAX_QUEUES } else { 1 };
            for queue in 0..queues {
                let arguments = match queues {
                    1 => json!({ "path": path }),
                    _ => json!({ "path": path, "queue": queue }),
                };
                let Ok(answer) = self.call(command, arguments).await else { break };
                text.push_str(&format!("{answer:#}\n"));
            }
        }
        let nth = self.reports.iter().filter(|report| report.name.starts_with(name)).count();
        self.report(format!("{name}-{nth}"), text);
    }

    async fn hmp(&mut self, line: &str, name: &str) {
        let answer = self.call("human-monitor-command", json!({ "command-line": line })).await;
        let text = answer
            .map_or_else(|reason| reason, |text| text.as_str().unwrap_or_default().replace("\r\n", "\n"));
        self.report(name.to_owned(), text);
    }

    async fn qmp(&mut self, command: &str, arguments: Value) -> Option<Value> {
        let answer = self.call(command, arguments).await;
        let text = answer.as_ref().map_or_else(Clone::clone, |answer| format!("{answer:#}\n"));
        self.report(command.to_owned(), text);
        answer.ok()
    }

    /// The answer, or why there is none.
    async fn call(&self, command: &str, arguments: Value) -> Result<Value, String> {
        match timeout_at(self.end, self.qmp.call(command, arguments)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(OperationError::Gone)) => Err("QEMU has exited\n".to_owned()),
            Ok(Err(error)) => Err(format!("{error}\n")),
            Err(_) => Err("no answer from QEMU\n".to_owned()),
        }
    }

    fn report(&mut self, name: String, text: String) {
        self.reports.push(Diagnostic { name, text });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;

    use super::*;

    /// A QEMU that answers all but what it does not know.
    async fn qemu(socket: UnixStream) {
        let (reader, mut writer) = socket.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let command: Value = serde_json::from_str(&line).expect("JSON");
            let mut answer = match command["execute"].as_str() {
                Some("query-status") => json!({ "return": { "status": "running" } }),
                Some("human-monitor-command") => json!({ "return": "RIP=1\r\n" }),
                Some("x-query-virtio") => json!({ "return": [{ "path": "/a", "name": "virtio-serial" }] }),
                Some("x-query-virtio-queue-status") if command["arguments"]["queue"] == 2 => {
                    json!({ "error": { "class": "x", "desc": "no such queue" } })
                }
                Some("x-query-virtio-queue-status") => json!({ "return": { "used-idx": 7 } }),
                _ => json!({ "error": { "class": "x", "desc": "unknown" } }),
            };
            answer["id"] = command["id"].clone();
            writer.write_all(format!("{answer}\n").as_bytes()).await.expect("writes");
        }
    }

    #[tokio::test]
    async fn registers_are_sampled_and_queues_are_listed() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        tokio::spawn(qemu(theirs));
        let reports = diagnose(&Qmp::attach(ours)).await;
        let text = |name: &str| &reports.iter().find(|report| report.name == name).expect(name).text;
        assert!(text("query-status").contains("running"));
        assert_eq!(text("registers-3"), "RIP=1\n");
        assert_eq!(text("virtio-serial-0").matches("used-idx").count(), 2);
    }

    #[tokio::test]
    async fn a_vmm_that_does_not_answer_is_reported_in_time() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let start = Instant::now();
        let reports = diagnose_until(&Qmp::attach(ours), start + SAMPLE_INTERVAL).await;
        assert!(start.elapsed() < DIAGNOSE_TIMEOUT, "{:?}", start.elapsed());
        assert_eq!(reports[0].text, "no answer from QEMU\n");
    }
}
