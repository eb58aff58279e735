//! The API itself: requests and their answers. The fake answers like a real Firecracker of the newest
//! version.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use mimeo_vmm::SaveKind;
use mimeo_vmm::firecracker::api::{
    Api, ApiError, Balloon, Bandwidth, BootSource, CacheType, CreateSnapshot, Drive, HugePages, Logger,
    MachineConfig, Metrics, MmdsConfig, RateLimiter, RunState, TokenBucket, Vsock,
};
use mimeo_vmm::firecracker::version::Version;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Bench, Jailed, on_each, until};

on_each!(requests_are_answered_as_by_firecracker, every_api_call_is_accepted);

/// A process without a driver, in the test's directory. Dropping it kills the process.
struct BareProcess(Child);

impl BareProcess {
    async fn start(bench: &Bench) -> Self {
        std::fs::remove_file(bench.path("api")).unwrap_or_default();
        // Versions before 1.14 do not create them.
        for name in ["log", "metrics"] {
            std::fs::write(bench.path(name), "").expect("made");
        }
        let child = Command::new(&bench.program)
            .args(["--api-sock", "api", "--level", "Off"])
            .current_dir(bench.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let socket = bench.path("api");
        until(|| std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
        Self(child)
    }
}

impl Drop for BareProcess {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("ended");
    }
}

/// Sends a raw request; returns the status and body of the answer.
async fn send_request(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.expect("connects");
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let length =
                lower.split("content-length:").nth(1).and_then(|rest| rest.split_whitespace().next());
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
                return (status, body.to_owned());
            }
        }
        let count = stream.read(&mut buffer).await.expect("read");
        assert_ne!(count, 0, "the answer is incomplete: {text}");
        answer.extend_from_slice(&buffer[..count]);
    }
}

const REQUESTS: &str = include_str!("requests.txt");
const UNREADABLE: &str = "An error occurred when deserializing the json body of a request: ";

/// Method, path, body and the beginning of the answer.
fn requests() -> impl Iterator<Item = [&'static str; 4]> {
    REQUESTS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (request, expected) = line.split_once(" =>").expect("an answer");
        let mut words = request.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        [word(), word(), word(), expected.trim()]
    })
}

async fn requests_are_answered_as_by_firecracker(bench: &Bench) {
    if bench.jailed == Jailed::Yes {
        return;
    }
    let _process = BareProcess::start(bench).await;
    let api = Api::connect(bench.dir.path(), "api").await.expect("answers");
    // Older versions word some answers differently, and accept some of the requests.
    let newest = api.version() >= Version::new(1, 17, 0);
    for [method, path, body, expected] in requests() {
        let (status, answer) = send_request(&bench.path("api"), method, path, body).await;
        let request = format!("{method} {path} {body}: {status} {answer}");
        if expected.is_empty() {
            assert_eq!((status, answer.as_str()), (204, ""), "{request}");
        } else if newest {
            let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
            let expected = expected.replace('~', UNREADABLE);
            assert_eq!(status, 400, "{request}");
            assert!(
                answer["fault_message"].as_str().is_some_and(|answer| answer.starts_with(&expected)),
                "{request}"
            );
        }
    }
    for name in ["v", "s", "m", "api"] {
        std::fs::remove_file(bench.path(name)).expect("made");
    }
}

async fn every_api_call_is_accepted(bench: &Bench) {
    if bench.jailed == Jailed::Yes {
        return;
    }
    let _process = BareProcess::start(bench).await;
    let api = Api::connect(bench.dir.path(), "api").await.expect("answers");
    before_the_start(&api).await;
    api.start().await.expect("starts");
    after_the_start(&api).await;
    for name in ["v", "api"] {
        std::fs::remove_file(bench.path(name)).expect("made");
    }
}

fn limit() -> RateLimiter {
    let bucket = TokenBucket { size: 1000, one_time_burst: Some(10), refill_time: 100 };
    RateLimiter { bandwidth: Some(bucket.clone()), ops: Some(bucket) }
}

async fn before_the_start(api: &Api) {
    let machine = MachineConfig {
        vcpu_count: 2,
        mem_size_mib: 32,
        smt: false,
        track_dirty_pages: true,
        huge_pages: HugePages::None,
    };
    api.set_machine(&machine).await.expect("set");
    assert_eq!(api.machine().await.expect("described"), machine);
    let log = Logger { log_path: Some("log".into()), level: Some("Error".into()), ..Logger::default() };
    api.set_logger(&log).await.expect("set");
    api.set_metrics(&Metrics { metrics_path: "metrics".into(), ..Metrics::default() }).await.expect("set");
    let source = BootSource {
        kernel_image_path: "kernel".into(),
        initrd_path: Some("initramfs".into()),
        boot_args: Some("panic=1".into()),
    };
    api.set_boot_source(&source).await.expect("set");
    let drive = Drive {
        drive_id: "drive0".into(),
        path_on_host: "image".into(),
        is_root_device: false,
        is_read_only: true,
        cache_type: CacheType::Unsafe,
        rate_limiter: Some(limit()),
    };
    api.set_drive(&drive).await.expect("set");
    api.set_vsock(&Vsock { guest_cid: 3, uds_path: "v".into() }).await.expect("set");
    api.set_entropy(Some(&limit())).await.expect("set");
    let balloon = Balloon { amount_mib: 1, deflate_on_oom: true, ..Balloon::default() };
    api.set_balloon(&balloon).await.expect("set");
    assert_eq!(api.balloon().await.expect("described"), balloon);
    api.set_mmds(&json!({ "a": { "b": 1 } })).await.expect("set");
    api.merge_mmds(&json!({ "a": { "c": 2 } })).await.expect("changed");
    assert_eq!(api.mmds().await.expect("described"), json!({ "a": { "b": 1, "c": 2 } }));
    let service = MmdsConfig { network_interfaces: vec!["none".into()], ..MmdsConfig::default() };
    assert!(matches!(api.set_mmds_config(&service).await, Err(ApiError::Refused { status: 400, .. })));
    assert_eq!(api.instance().await.expect("described").state, RunState::NotStarted);
}

async fn after_the_start(api: &Api) {
    assert_eq!(api.instance().await.expect("described").state, RunState::Running);
    assert_eq!(api.settings().await.expect("described")["machine-config"]["vcpu_count"], 2);
    api.replace_drive("drive0", "image").await.expect("replaced");
    api.limit_drive("drive0", &limit()).await.expect("limited");
    assert!(matches!(
        api.limit_network("eth0", &Bandwidth { receive: Some(limit()), send: None }).await,
        Err(ApiError::Refused { status: 400, .. })
    ));
    // The guest here has no balloon driver.
    assert!(matches!(api.resize_balloon(2).await, Err(ApiError::Refused { .. })));
    api.flush_metrics().await.expect("written");
    api.ctrl_alt_del().await.expect("pressed");
    api.pause().await.expect("paused");
    assert_eq!(api.instance().await.expect("described").state, RunState::Paused);
    let nowhere = CreateSnapshot {
        snapshot_type: SaveKind::Full,
        snapshot_path: "nowhere/s".into(),
        mem_file_path: "nowhere/m".into(),
    };
    let refused = api.create_snapshot(&nowhere).await.expect_err("refused");
    assert!(
        refused.to_string().starts_with("firecracker refused to save the machine: Create snapshot error: ")
    );
    api.resume().await.expect("resumed");
}
