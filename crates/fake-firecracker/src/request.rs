//! Parsing requests: method, path and body.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use crate::schema::{
    Act, Backend, BackendType, Balloon, BalloonUpdate, BootSource, Create, Drive, DriveUpdate, Entropy, Load,
    Logger, MachineConfig, Metrics, MmdsConfig, NetworkInterface, NetworkInterfaceUpdate, Vm, VsockDevice,
};
use crate::version;

/// A parsed request.
#[derive(Debug)]
pub(crate) enum MachineRequest {
    Version,
    Instance,
    Settings,
    Machine,
    Balloon,
    Mmds,
    SetMachine(MachineConfig),
    SetBootSource(BootSource),
    SetDrive(Drive),
    SetInterface(NetworkInterface),
    SetVsock(VsockDevice),
    SetEntropy,
    SetBalloon(Balloon),
    SetLogger(Logger),
    SetMetrics(Metrics),
    SetMmdsConfig(MmdsConfig),
    SetMmds(Value),
    MergeMmds(Value),
    Act(Act),
    ReplaceDrive(DriveUpdate),
    LimitInterface(NetworkInterfaceUpdate),
    ResizeBalloon,
    Run(Vm),
    Create(Create),
    Load(Load, Backend),
}

/// Parses a request as a version does. Errors are in Firecracker's words.
pub(crate) fn read(
    version: &str,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) -> Result<MachineRequest, String> {
    let mut words = path.trim_start_matches('/').split_terminator('/');
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    match (method, first, body) {
        ("GET", _, Some(_)) => Err("GET request cannot have a body.".to_owned()),
        ("GET", _, None) => get(first, second),
        ("PUT", _, None) => Err("Empty PUT request.".to_owned()),
        ("PATCH", _, None) => Err("Empty PATCH request.".to_owned()),
        ("PUT" | "PATCH", _, Some(text)) => {
            let body = Body { version, path, text };
            if method == "PUT" { put(first, second, &body) } else { patch(first, second, &body) }
        }
        _ => Err(no_such(method, first)),
    }
}

fn no_such(method: &str, path: &str) -> String {
    format!("Invalid request method and/or path: {method} {path}.")
}

fn get(first: &str, second: Option<&str>) -> Result<MachineRequest, String> {
    match (first, second) {
        ("", _) => Ok(MachineRequest::Instance),
        ("version", _) => Ok(MachineRequest::Version),
        ("vm", Some("config")) => Ok(MachineRequest::Settings),
        ("machine-config", _) => Ok(MachineRequest::Machine),
        ("balloon", None) => Ok(MachineRequest::Balloon),
        ("mmds", _) => Ok(MachineRequest::Mmds),
        _ => Err(no_such("GET", first)),
    }
}

fn put(first: &str, second: Option<&str>, body: &Body<'_>) -> Result<MachineRequest, String> {
    match (first, second) {
        ("machine-config", _) => body.read().map(MachineRequest::SetMachine),
        ("boot-source", _) => body.read().map(MachineRequest::SetBootSource),
        ("drives", id) => body.named(id, |drive: &Drive| &drive.drive_id).map(MachineRequest::SetDrive),
        ("network-interfaces", id) => body
            .named(id, |interface: &NetworkInterface| &interface.iface_id)
            .map(MachineRequest::SetInterface),
        ("vsock", _) => body.read().map(MachineRequest::SetVsock),
        ("entropy", _) => body.read().map(|_: Entropy| MachineRequest::SetEntropy),
        ("balloon", _) => body.read().map(MachineRequest::SetBalloon),
        ("logger", _) => body.read().map(MachineRequest::SetLogger),
        ("metrics", _) => body.read().map(MachineRequest::SetMetrics),
        ("mmds", Some("config")) => body.read().map(MachineRequest::SetMmdsConfig),
        ("mmds", None) => body.read().map(MachineRequest::SetMmds),
        ("actions", _) => body.read().map(MachineRequest::Act),
        ("snapshot", Some("create")) => body.read().map(MachineRequest::Create),
        ("snapshot", Some("load")) => load(body),
        ("snapshot", Some(other)) => Err(no_such("PUT", &format!("/snapshot/{other}"))),
        ("snapshot", None) => Err("Missing snapshot operation type.".to_owned()),
        _ => Err(no_such("PUT", first)),
    }
}

fn patch(first: &str, second: Option<&str>, body: &Body<'_>) -> Result<MachineRequest, String> {
    match (first, second) {
        ("vm", _) => body.read().map(MachineRequest::Run),
        ("drives", id) => {
            body.named(id, |update: &DriveUpdate| &update.drive_id).map(MachineRequest::ReplaceDrive)
        }
        ("network-interfaces", id) => body
            .named(id, |update: &NetworkInterfaceUpdate| &update.iface_id)
            .map(MachineRequest::LimitInterface),
        ("balloon", None) => body.read().map(|_: BalloonUpdate| MachineRequest::ResizeBalloon),
        ("mmds", _) => body.read().map(MachineRequest::MergeMmds),
        _ => Err(no_such("PATCH", first)),
    }
}

fn load(body: &Body<'_>) -> Result<MachineRequest, String> {
    let load: Load = body.read()?;
    let kind = "either `mem_backend` or `mem_file_path`";
    let backend = match (&load.mem_backend, &load.mem_file_path) {
        (Some(_), Some(_)) => {
            return Err(unreadable(format!("too many fields: {kind} exclusively is required")));
        }
        (None, None) => return Err(unreadable(format!("missing field: {kind} is required"))),
        (Some(backend), None) => backend.clone(),
        (None, Some(path)) => Backend { backend_path: path.clone(), backend_type: BackendType::File },
    };
    Ok(MachineRequest::Load(load, backend))
}

struct Body<'a> {
    version: &'a str,
    path: &'a str,
    text: &'a [u8],
}

impl Body<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let value: Value = serde_json::from_slice(self.text).unwrap_or_default();
        if let Some(field) = version::unknown_field(self.version, self.path, &value) {
            return Err(unreadable(format!("unknown field `{field}`")));
        }
        serde_json::from_slice(self.text).map_err(|error| unreadable(error.to_string()))
    }

    /// Parses a body whose ID must be equal to the one in the path.
    fn named<T: DeserializeOwned>(
        &self,
        id: Option<&str>,
        name: impl Fn(&T) -> &String,
    ) -> Result<T, String> {
        let id = id.ok_or("The ID cannot be empty.")?;
        if !id.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
            return Err(
                "API Resource IDs can only contain alphanumeric characters and underscores.".to_owned()
            );
        }
        let read = self.read()?;
        if name(&read) == id {
            return Ok(read);
        }
        Err("The id from the path does not match the id from the body!".to_owned())
    }
}

fn unreadable(why: String) -> String {
    let why = serde_json::Error::custom(why);
    format!("An error occurred when deserializing the json body of a request: {why}.")
}
