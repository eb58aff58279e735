//! `mimeo info`: the host, mimeo's directories, and the number of machines, images and volumes.

use std::fs;
use std::path::Path;

use mimeo_engine::Engine;
use mimeo_engine::machine::Phase;
use rustix::fs::statvfs;
use serde_json::{Map, Value, json};

use crate::backend::Host;
use crate::commands::run::volumes::LOCAL_DRIVER;
use crate::commands::version;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// Arguments of `mimeo info`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo info\n  mimeo info --format '{{.Host.MemTotal}} {{.Store.GraphRoot}}'"
)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.Host.Arch}} and {{.Store.GraphRoot}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Accepted for compatibility with podman
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
}

/// Prints the information as YAML, as podman does, as JSON or through a template.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let info = host.info().await?;
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&info)?,
        Some(Format::Text(text)) => text.print(&[capitalized(&info)], &[])?,
        None => output::bytes(yaml(&info, 0).as_bytes())?,
    }
    Ok(0)
}

/// This host, its directories, and the number of its machines, images and volumes.
pub(crate) fn local_info(engine: &Engine) -> Result<Value, CliError> {
    Ok(json!({"host": host(engine), "plugins": {"volume": [LOCAL_DRIVER]}, "store": store(engine)?,
              "version": version::local_fields(engine)}))
}

fn host(engine: &Engine) -> Value {
    let system = rustix::system::uname();
    let memory = |key| meminfo(key).unwrap_or_default();
    json!({
        "arch": goarch(),
        "os": std::env::consts::OS,
        "hostname": system.nodename().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "memTotal": memory("MemTotal:"),
        "memFree": memory("MemFree:"),
        "memAvailable": memory("MemAvailable:"),
        "swapTotal": memory("SwapTotal:"),
        "swapFree": memory("SwapFree:"),
        "kvm": Path::new("/dev/kvm").exists(),
        "drivers": engine.driver_names().collect::<Vec<_>>(),
        "security": {"rootless": !rustix::process::geteuid().is_root()},
    })
}

/// The architecture as Go and OCI images name it.
fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A value of /proc/meminfo in bytes.
fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn store(engine: &Engine) -> Result<Value, CliError> {
    let machines = engine.registry().list()?;
    let count = |phase| machines.iter().filter(|found| found.record.phase() == phase).count();
    let images = engine.images()?.list()?.images.len();
    let home = engine.home().home();
    let space = statvfs(home).map(|fs| (fs.f_blocks * fs.f_frsize, (fs.f_blocks - fs.f_bfree) * fs.f_frsize));
    let (allocated, used) = space.unwrap_or_default();
    Ok(json!({
        "graphRoot": home,
        "runRoot": engine.home().run(),
        "graphRootAllocated": allocated,
        "graphRootUsed": used,
        "containerStore": {"number": machines.len(), "paused": count(Phase::Paused),
                           "running": count(Phase::Running), "stopped": count(Phase::Exited)},
        "imageStore": {"number": images},
        "volumePath": engine.home().volumes(),
        "volumeStore": {"number": engine.volumes().list()?.len()},
    }))
}

/// The same with capitals at the start of keys: podman's templates have Go's names of the fields.
fn capitalized(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let capital = |key: &String| {
        let mut characters = key.chars();
        characters.next().map(|first| first.to_uppercase().chain(characters).collect::<String>())
    };
    let pairs = map.iter().map(|(key, value)| (capital(key).unwrap_or_default(), capitalized(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// The values as YAML. Texts are quoted as in JSON, which is YAML too.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let Value::Object(map) = value else { return format!("{value}\n") };
    let line = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => format!("{indent}{key}:\n{}", yaml(value, depth + 1)),
        Value::String(text) if is_plain(text) => format!("{indent}{key}: {text}\n"),
        other => format!("{indent}{key}: {other}\n"),
    };
    map.iter().map(line).collect()
}

/// Whether YAML reads the text as text without quotes.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'))
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_printed_as_yaml() {
        let value =
            json!({"host": {"arch": "amd64", "cpus": 2, "drivers": ["qemu"], "name": "a: b", "yes": "no"}});
        let text =
            "host:\n  arch: amd64\n  cpus: 2\n  drivers: [\"qemu\"]\n  name: \"a: b\"\n  yes: \"no\"\n";
        assert_eq!(yaml(&value, 0), text);
        assert_eq!(capitalized(&value)["Host"]["Arch"], "amd64");
    }
}
