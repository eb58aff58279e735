//! Pulls from a registry with injected faults.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mimeo_image::{Credentials, Digest, PullOptions, RegistryOptions};

use crate::support::{Home, Tar, TestImage, chain, descriptor, fsck};

/// The injected faults; counters say how often a fault will still occur.
#[derive(Default)]
struct Faults {
    /// Bytes after which a layer's connection is closed.
    cut_after: usize,
    cuts: usize,
    /// Replies to a range request with the whole blob.
    ignore_range: bool,
    /// Sends different bytes of the same length.
    wrong_bytes: usize,
    /// Replies with 503.
    unavailable: usize,
    /// Requires a token, which is issued for `user:secret`.
    token: bool,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    layer: String,
    address: String,
    faults: Mutex<Faults>,
    log: Mutex<Vec<String>>,
}

/// A registry with one image, `app:v1`, served by threads that end with the test process.
struct Registry(Arc<State>);

struct Request {
    path: String,
    range: Option<usize>,
    authorization: String,
}

impl Registry {
    fn start(image: &TestImage, faults: Faults) -> Self {
        Self::serve(image, image.manifest.clone(), faults)
    }

    fn start_index(image: &TestImage, architecture: &str) -> Self {
        Self::serve(image, index_of(image, architecture), Faults::default())
    }

    /// Serves `top` under the tag.
    fn serve(image: &TestImage, top: Vec<u8>, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let digest = |bytes: &[u8]| Digest::compute(bytes).to_string();
        let mut state = State { address: listener.local_addr().unwrap().to_string(), ..State::default() };
        state.blobs = image.blobs.iter().map(|blob| (digest(blob), blob.clone())).collect();
        state.layer = digest(&image.blobs[0]);
        state.manifests.insert("v1".to_owned(), top);
        state.manifests.insert(digest(&image.manifest), image.manifest.clone());
        *state.faults.get_mut().unwrap() = faults;
        let state = Arc::new(state);
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self(state)
    }

    fn name(&self) -> String {
        format!("{}/app:v1", self.0.address)
    }

    fn layer_requests(&self) -> Vec<String> {
        let log = self.0.log.lock().unwrap();
        log.iter().filter(|line| line.contains(&self.0.layer)).cloned().collect()
    }
}

impl State {
    /// Serves one request per connection, for simplicity.
    fn serve(&self, mut stream: TcpStream) {
        let request = read_request(&stream);
        self.log.lock().unwrap().push(format!("{} {:?}", request.path, request.range));
        self.answer(&mut stream, &request).ok();
    }

    fn answer(&self, stream: &mut TcpStream, request: &Request) -> std::io::Result<()> {
        let path = request.path.split('?').next().unwrap();
        if path == "/token" {
            // user:secret
            let known = request.authorization == "Basic dXNlcjpzZWNyZXQ=";
            return if known {
                send(stream, 200, "", br#"{"token":"t0ken"}"#)
            } else {
                send(stream, 401, "", b"{}")
            };
        }
        if self.faults.lock().unwrap().token && request.authorization != "Bearer t0ken" {
            let realm =
                format!("Www-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\n", self.address);
            return send(stream, 401, &realm, b"{}");
        }
        if consume(&mut self.faults.lock().unwrap().unavailable) && path != "/v2/" {
            return send(stream, 503, "", b"busy");
        }
        match path.rsplit_once('/') {
            Some(("/v2/app/manifests", tag)) => self.document(stream, self.manifests.get(tag)),
            Some(("/v2/app/blobs", digest)) if digest == self.layer => self.send_layer(stream, request.range),
            Some(("/v2/app/blobs", digest)) => self.document(stream, self.blobs.get(digest)),
            _ => send(stream, 200, "", b"{}"),
        }
    }

    fn document(&self, stream: &mut TcpStream, bytes: Option<&Vec<u8>>) -> std::io::Result<()> {
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        match bytes {
            Some(bytes) => send(stream, 200, kind, bytes),
            None => send(stream, 404, "", b"{}"),
        }
    }

    fn send_layer(&self, stream: &mut TcpStream, range: Option<usize>) -> std::io::Result<()> {
        let mut faults = self.faults.lock().unwrap();
        let mut bytes = self.blobs[&self.layer].clone();
        if consume(&mut faults.wrong_bytes) {
            bytes.reverse();
        }
        let from = range.filter(|_| !faults.ignore_range);
        let bytes = &bytes[from.unwrap_or(0)..];
        let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
        let end = if consume(&mut faults.cuts) { faults.cut_after.min(bytes.len()) } else { bytes.len() };
        stream.write_all(&bytes[..end])
    }
}

fn consume(count: &mut usize) -> bool {
    let remaining = *count > 0;
    *count = count.saturating_sub(1);
    remaining
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, range: None, authorization: String::new() };
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
            "authorization" => request.authorization = value.to_owned(),
            _ => {}
        }
    }
    request
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

/// An image whose layer is not compressed, so that it can be cut at known offsets.
fn test_image() -> TestImage {
    let noise: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Tar::new().file("noise", &noise).done();
    TestImage::from_layers(&[(tar.clone(), tar)], "amd64")
}

#[tokio::test]
async fn an_interrupted_download_resumes() {
    let home = Home::new();
    let registry =
        Registry::start(&test_image(), Faults { cuts: 3, cut_after: 300_000, ..Faults::default() });
    let image = home.pull(&registry.name()).await.unwrap();
    fsck(&image.rootfs);
    let requests = registry.layer_requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert!(requests[3].ends_with("Some(900000)"), "{requests:?}");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_start() {
    let home = Home::new();
    let faults = Faults { cuts: 2, cut_after: 300_000, ignore_range: true, ..Faults::default() };
    let registry = Registry::start(&test_image(), faults);
    fsck(&home.pull(&registry.name()).await.unwrap().rootfs);
}

#[tokio::test]
async fn a_partial_file_of_an_earlier_process_is_resumed_or_replaced() {
    for wrong in [false, true] {
        let home = Home::new();
        let image = test_image();
        let registry = Registry::start(&image, Faults::default());
        let mut partial_bytes = image.blobs[0][..100_000].to_vec();
        partial_bytes[7] ^= u8::from(wrong);
        let partial = format!("{}.partial", Digest::compute(&image.blobs[0]).hex());
        std::fs::write(home.store.root().join("blobs/sha256").join(&partial), partial_bytes).unwrap();
        fsck(&home.pull(&registry.name()).await.unwrap().rootfs);
        let requests = registry.layer_requests();
        assert!(requests[0].ends_with("Some(100000)"), "{requests:?}");
        assert_eq!(requests.len(), if wrong { 2 } else { 1 }, "{requests:?}");
    }
}

#[tokio::test]
async fn wrong_bytes_are_never_stored() {
    let home = Home::new();
    let registry = Registry::start(&test_image(), Faults { wrong_bytes: 100, ..Faults::default() });
    let error = home.pull(&registry.name()).await.unwrap_err();
    assert!(chain(&error).contains(&registry.0.layer), "{}", chain(&error));
    assert!(chain(&error).contains("content of the digest"), "{}", chain(&error));
    let layer = registry.0.layer.trim_start_matches("sha256:");
    assert!(!home.store.root().join("blobs/sha256").join(layer).exists());
}

#[tokio::test]
async fn a_busy_registry_is_retried() {
    let home = Home::new();
    let registry = Registry::start(&test_image(), Faults { unavailable: 3, ..Faults::default() });
    fsck(&home.pull(&registry.name()).await.unwrap().rootfs);
}

#[tokio::test]
async fn a_token_is_requested_with_the_login() {
    let home = Home::new();
    let registry = Registry::start(&test_image(), Faults { token: true, ..Faults::default() });
    let options = |password: &str| PullOptions {
        registry: RegistryOptions {
            credentials: Some(Credentials { user: "user".into(), password: password.into() }),
            ..RegistryOptions::default()
        },
        ..PullOptions::default()
    };
    let error = home.pull_with(&registry.name(), &options("wrong")).await.unwrap_err();
    assert!(chain(&error).contains("refuses access"), "{}", chain(&error));
    assert!(!chain(&error).contains("wrong"), "{}", chain(&error));
    fsck(&home.pull_with(&registry.name(), &options("secret")).await.unwrap().rootfs);
}

#[tokio::test]
async fn an_unreachable_registry_is_reported_at_once() {
    let home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    let error = home.pull(&format!("127.0.0.1:{port}/app:v1")).await.unwrap_err();
    assert!(chain(&error).contains("cannot be reached"), "{}", chain(&error));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_platform_is_chosen_from_an_index() {
    let home = Home::new();
    for (architecture, works) in [("amd64", true), ("riscv64", false)] {
        let registry = Registry::start_index(&test_image(), architecture);
        match home.pull(&registry.name()).await {
            Ok(image) => assert!(works && image.architecture == "amd64"),
            Err(error) => {
                assert!(!works, "{}", chain(&error));
                assert!(chain(&error).ends_with("there is no image for linux/amd64, only for linux/riscv64"));
            }
        }
    }
}

/// An index with one entry.
fn index_of(image: &TestImage, architecture: &str) -> Vec<u8> {
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes()
}
