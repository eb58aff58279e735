//! A manager of a test's world, and a client of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{World, signal, until};

/// How long a manager may take to answer a request.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running manager. Dropping it kills it.
#[derive(Debug)]
pub struct Manager {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The first administrator's token, if this is the first start in this world.
    pub token: Option<String>,
}

/// What stores a manager's records.
#[derive(Debug)]
pub enum Database {
    /// A file in the world's home.
    Sqlite,
    /// A server of the test's own.
    Postgres(crate::Postgres),
}

impl Database {
    /// The arguments of `mimeo manager` for it.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::Sqlite => Vec::new(),
            Self::Postgres(server) => vec!["--database".to_owned(), server.url()],
        }
    }
}

impl Manager {
    /// Starts a manager with its records in this database.
    #[must_use]
    pub fn start_on(world: &World, database: &Database, arguments: &[&str]) -> Self {
        let mut all = database.arguments();
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self::start(world, &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a manager on a free port of the loopback interface, with further arguments.
    #[must_use]
    pub fn start(world: &World, arguments: &[&str]) -> Self {
        let mut all = vec!["manager", "--listen", "127.0.0.1:0"];
        let server = if arguments.contains(&"--database") { None } else { world.postgres() };
        if let Some(url) = &server {
            all.extend(["--database", url]);
        }
        all.extend(arguments);
        Self::spawn(world.command(all))
    }

    /// Starts a manager by a command of the test, which listens on the loopback interface.
    #[must_use]
    pub fn spawn(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("mimeo starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut url, mut token) = (None, None);
        // The last line tells that it answers.
        for line in lines.by_ref() {
            let line = line.expect("a line");
            if let Some(address) = line.strip_prefix("listening on 127") {
                url = Some(format!("http://127{address}"));
            } else if let Some((_, text)) = line.split_once("shown only now: ") {
                token = Some(text.to_owned());
            } else if line == "ready" {
                break;
            }
        }
        let url = url.unwrap_or_else(|| panic!("the manager did not start: {:?}", child.wait()));
        Self { child, url, token }
    }

    /// A client with the first administrator's token.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.client(self.token.as_deref().expect("this was the first start in this world"))
    }

    /// A client with this token.
    #[must_use]
    pub fn client(&self, token: &str) -> Client {
        Client::new(&self.url, token)
    }

    /// The manager's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the manager with SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Ends the manager with SIGTERM, and asserts that it ends well.
    pub fn end(mut self) {
        signal(&self.child, rustix::process::Signal::TERM);
        let status = until("the manager ends", || self.child.try_wait().expect("a child"));
        assert!(status.success(), "the manager ended with {status}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client of a manager.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: String,
}

/// An answer of a manager.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request, for messages.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers, by names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the manager at `url`.
    #[must_use]
    pub fn new(url: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .allow_non_standard_methods(true)
            .build();
        Self { agent: config.into(), url: url.to_owned(), token: token.to_owned() }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The manager's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request with these headers and this body.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.try_send(method, path, headers, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request to a manager that may end meanwhile.
    ///
    /// # Errors
    /// If there is no whole answer.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).expect("a request");
        let mut response = self.agent.run(request)?;
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Answer {
            request: format!("{method} {path}"),
            status: response.status().as_u16(),
            headers: response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: response.body_mut().with_config().limit(1 << 30).read_to_vec()?,
        })
    }

    /// Sends a request with a JSON body.
    #[must_use]
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = serde_json::to_vec(body).expect("JSON");
        self.send(method, path, &[("content-type", "application/json")], &body)
    }

    /// GET.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// POST with a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body)
    }

    /// DELETE.
    #[allow(clippy::must_use_candidate, reason = "callers may only want the change")]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }

    /// Creates a machine, and waits until it runs. Returns its item.
    #[must_use]
    pub fn create(&self, request: &Value) -> Value {
        self.post("/v1/containers?wait=120", request).ok(201).json()["item"].clone()
    }

    /// Runs a shell command in a machine; returns its result.
    #[must_use]
    pub fn sh(&self, machine: &str, script: &str) -> Value {
        let request = serde_json::json!({ "command": ["sh", "-c", script] });
        self.post(&format!("/v1/containers/{machine}/exec"), &request).ok(200).json()["item"].clone()
    }
}

impl Answer {
    /// Asserts the status.
    #[track_caller]
    #[allow(clippy::must_use_candidate, reason = "it asserts")]
    pub fn ok(self, status: u16) -> Self {
        let Self { request, body, .. } = &self;
        let text = String::from_utf8_lossy(body);
        assert_eq!(self.status, status, "{request}: {text}");
        self
    }

    /// Asserts that the answer is a problem document with this status and this code; returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.clone().ok(status).json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.request);
        assert_eq!(problem["code"], code, "{}: {problem}", self.request);
        assert_eq!(problem["status"], status, "{}: {problem}", self.request);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{}", self.request);
        problem
    }

    /// The body as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", self.request, String::from_utf8_lossy(&self.body))
        })
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}
