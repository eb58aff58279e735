//! The API socket.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};

use crate::machine::Machine;
use crate::request;
use crate::run::Log;

/// A machine and its log.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) machine: Arc<Mutex<Machine>>,
    pub(crate) log: Arc<Log>,
}

impl Server {
    /// Serves connections until the process must exit, and returns its exit status.
    pub(crate) async fn serve(self, listener: UnixListener) -> u8 {
        let (end, mut ended) = tokio::sync::mpsc::channel(1);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (server, end) = (self.clone(), end.clone());
                    tokio::spawn(async move {
                        if let Some(code) = server.converse(stream).await {
                            end.send(code).await.unwrap_or_default();
                        }
                    });
                }
                code = ended.recv() => return code.unwrap_or(1),
            }
        }
    }

    /// Serves one connection; returns an exit status if it was the last one.
    async fn converse(&self, stream: UnixStream) -> Option<u8> {
        let service = service_fn(|request| self.reply(request));
        // A broken connection matters only to its client.
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap_or_default();
        let ends = self.machine.lock().unwrap_or_else(PoisonError::into_inner).ends();
        if ends.is_some_and(|code| code != 0) {
            self.log.fail("Error: RunWithApi(BuildMicroVmError(Restore))");
        }
        ends
    }

    async fn reply(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Ok(respond(StatusCode::BAD_REQUEST, Some(error.to_string().into()), true)),
        };
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = machine.settings().clone();
        if let Some(exit) = settings.exit_at.filter(|exit| exit.when == format!("{method} {path}")) {
            self.log.exit(&exit);
        }
        let body = (!body.is_empty()).then_some(&body[..]);
        let asked = request::read(&settings.version, &method, &path, body);
        let answer = asked.and_then(|asked| machine.answer(asked));
        let last = machine.ends().is_some();
        Ok(match answer {
            Ok(Some(value)) => respond(StatusCode::OK, Some(value.to_string().into()), last),
            Ok(None) => respond(StatusCode::NO_CONTENT, None, last),
            Err(message) => {
                self.log.line(&format!("Received Error. Status code: 400 Bad Request. Message: {message}"));
                let fault = json!({ "fault_message": message }).to_string();
                respond(StatusCode::BAD_REQUEST, Some(fault.into()), last)
            }
        })
    }
}

fn respond(status: StatusCode, body: Option<Bytes>, last: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if last {
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}
