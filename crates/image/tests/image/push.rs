//! Pushes to a registry with limits and faults.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mimeo_image::{Digest, Image, Quiet, RegistryOptions};

use crate::support::{Home, Tar, chain};

/// A registry that takes uploads and counts them.
#[derive(Default)]
struct State {
    /// A larger request gets 413.
    max_request: usize,
    /// The 413 is sent without reading the request, so that the client may find the connection closed.
    closes_early: bool,
    /// Requests for an upload that get 503 first.
    unavailable: Mutex<usize>,
    /// Refuses the manifest with this status.
    manifest_status: u16,
    /// By the path of the upload.
    uploads: Mutex<HashMap<String, Vec<u8>>>,
    blobs: Mutex<Vec<Digest>>,
    chunks: Mutex<usize>,
    manifest: Mutex<Vec<u8>>,
}

struct Registry {
    state: Arc<State>,
    address: String,
}

impl Registry {
    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(state);
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { state, address }
    }
}

impl State {
    /// Serves one request. The reply closes the connection.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).unwrap();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap() == 0 || header == "\r\n" {
                break;
            }
            let header = header.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; if self.closes_early && length > self.max_request { 0 } else { length }];
        reader.read_exact(&mut body).unwrap();
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let reply = self.reply(method, path, body, length);
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {reply}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    }

    fn reply(&self, method: &str, path: &str, body: Vec<u8>, length: usize) -> String {
        if method == "POST" && std::mem::take(&mut *self.unavailable.lock().unwrap()) > 0 {
            return "503 Service Unavailable".to_owned();
        }
        if length > self.max_request {
            return "413 Payload Too Large".to_owned();
        }
        match method {
            "HEAD" => "404 Not Found".to_owned(),
            "POST" => {
                let mut uploads = self.uploads.lock().unwrap();
                let path = format!("/v2/app/blobs/uploads/{}", uploads.len());
                uploads.insert(path.clone(), Vec::new());
                format!("202 Accepted\r\nlocation: {path}")
            }
            "PATCH" => {
                self.uploads.lock().unwrap().get_mut(path).unwrap().extend(body);
                *self.chunks.lock().unwrap() += 1;
                format!("202 Accepted\r\nlocation: {path}")
            }
            "PUT" if path.contains("/manifests/") && self.manifest_status != 0 => {
                format!("{} Refused", self.manifest_status)
            }
            "PUT" if path.contains("/manifests/") => {
                *self.manifest.lock().unwrap() = body;
                "201 Created\r\nlocation: /v2/app/manifests/v1".to_owned()
            }
            "PUT" => {
                let mut uploads = self.uploads.lock().unwrap();
                let upload = uploads.get_mut(path.split('?').next().unwrap()).unwrap();
                upload.extend(body);
                self.blobs.lock().unwrap().push(Digest::compute(upload));
                "201 Created\r\nlocation: /v2/app/blobs/x".to_owned()
            }
            _ => "200 OK".to_owned(),
        }
    }
}

/// An image of one layer that takes several chunks.
fn image(home: &Home) -> Image {
    let noise: Vec<u8> =
        (0..1_300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Tar::new().file("noise", &noise).done();
    let options = mimeo_image::ImportOptions::default();
    home.store.import(&tar[..], std::path::Path::new("test"), &options, Arc::new(Quiet)).unwrap()
}

async fn push(home: &Home, image: &Image, registry: &Registry) -> Result<Digest, mimeo_image::PushError> {
    let name = format!("{}/app:v1", registry.address).parse().unwrap();
    home.store.push(image, &name, &RegistryOptions::default(), Arc::new(Quiet)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_too_large_for_a_request_is_sent_in_chunks() {
    let home = Home::new();
    let image = image(&home);
    for closes_early in [false, true] {
        let registry = Registry::start(State { max_request: 2 << 20, closes_early, ..State::default() });
        assert_eq!(push(&home, &image, &registry).await.unwrap(), image.digest);
        let blobs = registry.state.blobs.lock().unwrap().clone();
        assert!(blobs.contains(&image.layers[0].digest) && blobs.contains(&image.id), "{blobs:?}");
        assert!(*registry.state.chunks.lock().unwrap() >= 5);
        assert_eq!(Digest::compute(&registry.state.manifest.lock().unwrap()), image.digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_retried() {
    let home = Home::new();
    let image = image(&home);
    let unavailable = Mutex::new(1);
    let registry = Registry::start(State { max_request: usize::MAX, unavailable, ..State::default() });
    assert_eq!(push(&home, &image, &registry).await.unwrap(), image.digest);
    assert_eq!(*registry.state.chunks.lock().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_manifest_is_reported() {
    let home = Home::new();
    let image = image(&home);
    let registry =
        Registry::start(State { max_request: usize::MAX, manifest_status: 403, ..State::default() });
    let error = push(&home, &image, &registry).await.unwrap_err();
    assert!(chain(&error).contains("refuses access"), "{}", chain(&error));
}
