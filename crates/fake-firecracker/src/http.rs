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
        let (exit_sender, mut exit_receiver) = tokio::sync::mpsc::channel(1);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (server, exit_sender) = (self.clone(), exit_sender.clone());
                    tokio::spawn(async move {
                        if let Some(code) = server.serve_connection(stream).await {
                            exit_sender.send(code).await.unwrap_or_default();
                        }
                    });
                }
                code = exit_receiver.recv() => return code.unwrap_or(1),
            }
        }
    }

    /// Serves one connection; returns an exit status if it was the last one.
    async fn serve_connection(&self, stream: UnixStream) -> Option<u8> {
        let service = service_fn(|request| self.respond_to(request));
        // A broken connection matters only to its client.
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap_or_default();
        let exit_status = self.machine.lock().unwrap_or_else(PoisonError::into_inner).exit_status();
        if exit_status.is_some_and(|code| code != 0) {
            self.log.fail("Error: RunWithApi(BuildMicroVmError(Restore))");
        }
        exit_status
    }

    async fn respond_to(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Ok(response(StatusCode::BAD_REQUEST, Some(error.to_string().into()), true)),
        };
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = machine.settings().clone();
        if let Some(exit) = settings.exit_at.filter(|exit| exit.when == format!("{method} {path}")) {
            self.log.exit(&exit);
        }
        let body = (!body.is_empty()).then_some(&body[..]);
        let request = request::read(&settings.version, &method, &path, body);
        let answer = request.and_then(|request| machine.handle(request));
        let last = machine.exit_status().is_some();
        Ok(match answer {
            Ok(Some(value)) => response(StatusCode::OK, Some(value.to_string().into()), last),
            Ok(None) => response(StatusCode::NO_CONTENT, None, last),
            Err(message) => {
                self.log.line(&format!("Received Error. Status code: 400 Bad Request. Message: {message}"));
                let fault = json!({ "fault_message": message }).to_string();
                response(StatusCode::BAD_REQUEST, Some(fault.into()), last)
            }
        })
    }
}

fn response(status: StatusCode, body: Option<Bytes>, last: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if last {
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}
