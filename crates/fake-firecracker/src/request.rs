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
pub(crate) enum Asked {
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
pub(crate) fn read(told: &str, method: &str, path: &str, body: Option<&[u8]>) -> Result<Asked, String> {
    let mut words = path.trim_start_matches('/').split_terminator('/');
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    match (method, first, body) {
        ("GET", _, Some(_)) => Err("GET request cannot have a body.".to_owned()),
        ("GET", _, None) => get(first, second),
        ("PUT", _, None) => Err("Empty PUT request.".to_owned()),
        ("PATCH", _, None) => Err("Empty PATCH request.".to_owned()),
        ("PUT" | "PATCH", _, Some(text)) => {
            let body = Body { told, path, text };
            if method == "PUT" { put(first, second, &body) } else { patch(first, second, &body) }
        }
        _ => Err(no_such(method, first)),
    }
}

fn no_such(method: &str, path: &str) -> String {
    format!("Invalid request method and/or path: {method} {path}.")
}

fn get(first: &str, second: Option<&str>) -> Result<Asked, String> {
    match (first, second) {
        ("", _) => Ok(Asked::Instance),
        ("version", _) => Ok(Asked::Version),
        ("vm", Some("config")) => Ok(Asked::Settings),
        ("machine-config", _) => Ok(Asked::Machine),
        ("balloon", None) => Ok(Asked::Balloon),
        ("mmds", _) => Ok(Asked::Mmds),
        _ => Err(no_such("GET", first)),
    }
}

fn put(first: &str, second: Option<&str>, body: &Body<'_>) -> Result<Asked, String> {
    match (first, second) {
        ("machine-config", _) => body.read().map(Asked::SetMachine),
        ("boot-source", _) => body.read().map(Asked::SetBootSource),
        ("drives", id) => body.named(id, |drive: &Drive| &drive.drive_id).map(Asked::SetDrive),
        ("network-interfaces", id) => {
            body.named(id, |interface: &NetworkInterface| &interface.iface_id).map(Asked::SetInterface)
        }
        ("vsock", _) => body.read().map(Asked::SetVsock),
        ("entropy", _) => body.read().map(|_: Entropy| Asked::SetEntropy),
        ("balloon", _) => body.read().map(Asked::SetBalloon),
        ("logger", _) => body.read().map(Asked::SetLogger),
        ("metrics", _) => body.read().map(Asked::SetMetrics),
        ("mmds", Some("config")) => body.read().map(Asked::SetMmdsConfig),
        ("mmds", None) => body.read().map(Asked::SetMmds),
        ("actions", _) => body.read().map(Asked::Act),
        ("snapshot", Some("create")) => body.read().map(Asked::Create),
        ("snapshot", Some("load")) => load(body),
        ("snapshot", Some(other)) => Err(no_such("PUT", &format!("/snapshot/{other}"))),
        ("snapshot", None) => Err("Missing snapshot operation type.".to_owned()),
        _ => Err(no_such("PUT", first)),
    }
}

fn patch(first: &str, second: Option<&str>, body: &Body<'_>) -> Result<Asked, String> {
    match (first, second) {
        ("vm", _) => body.read().map(Asked::Run),
        ("drives", id) => body.named(id, |update: &DriveUpdate| &update.drive_id).map(Asked::ReplaceDrive),
        ("network-interfaces", id) => {
            body.named(id, |update: &NetworkInterfaceUpdate| &update.iface_id).map(Asked::LimitInterface)
        }
        ("balloon", None) => body.read().map(|_: BalloonUpdate| Asked::ResizeBalloon),
        ("mmds", _) => body.read().map(Asked::MergeMmds),
        _ => Err(no_such("PATCH", first)),
    }
}

fn load(body: &Body<'_>) -> Result<Asked, String> {
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
    Ok(Asked::Load(load, backend))
}

struct Body<'a> {
    told: &'a str,
    path: &'a str,
    text: &'a [u8],
}

impl Body<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let value: Value = serde_json::from_slice(self.text).unwrap_or_default();
        if let Some(word) = version::unknown_word(self.told, self.path, &value) {
            return Err(unreadable(format!("unknown field `{word}`")));
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
