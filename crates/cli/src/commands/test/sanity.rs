//! `mimeo test sanity`: starts one machine, checks its health, network and
//! `exec`, removes it and checks that nothing is left behind.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mimeo_engine::machine::{Found, HealthStatus, ProcessIdentity};
use mimeo_engine::{Engine, MachineName, Selector};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::busybox;
use crate::error::CliError;
use crate::output;

/// How long a machine may take to become healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the published port may take to answer, and the machine's leftovers to disappear.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between two looks at the machine.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Arguments of `mimeo test sanity`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo test sanity\n  mimeo test sanity --image nginx")]
pub(crate) struct Args {
    /// Image whose command serves HTTP; by default an image made of this host's static busybox
    #[arg(long)]
    image: Option<String>,
    /// Port that the image serves HTTP on
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The steps that have passed, and how long each took.
struct Report {
    json: bool,
    started: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Report {
    /// Records a step that has succeeded.
    fn passed(&mut self, step: &'static str) -> Result<(), CliError> {
        let took = self.started.elapsed();
        self.steps.push((step, took));
        self.started = Instant::now();
        if self.json { Ok(()) } else { output::line(format!("ok    {step} ({:.2} s)", took.as_secs_f32())) }
    }
}

/// Runs the test; the exit code is 0 if it passes, otherwise 1.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let mut report = Report { json: args.json, started: Instant::now(), steps: Vec::new() };
    let name = MachineName::random().to_string();
    let outcome = steps(engine, args, &name, &mut report).await;
    if outcome.is_err() {
        // The first failure is the one to report, so a failure to clean up is only logged.
        log_failure(run_mimeo(&["rm", "--force", &name]).await);
    }
    if args.image.is_none() {
        // This fails if another test is using the image; then that one removes it.
        log_failure(run_mimeo(&["rmi", "--ignore", busybox::NAME]).await);
    }
    if args.json {
        let steps: Vec<_> = report
            .steps
            .iter()
            .map(|(step, took)| json!({"step": step, "milliseconds": took.as_millis() as u64}))
            .collect();
        let error = outcome.as_ref().err().map(ToString::to_string);
        output::json(&json!({"passed": error.is_none(), "steps": steps, "error": error}))?;
    }
    match outcome {
        Ok(()) => Ok(0),
        Err(error) => Err(error.with_code(1)),
    }
}

async fn steps(engine: &Engine, args: &Args, name: &str, report: &mut Report) -> Result<(), CliError> {
    let (image, command) = prepare_image(engine, args)?;
    report.passed("image")?;
    start(name, &image, args.port, &command).await?;
    report.passed("start")?;
    let found = wait_until_healthy(engine, name).await?;
    report.passed("health")?;
    check_port(&found).await?;
    report.passed("network: the published port answers")?;
    let printed = run_mimeo(&["exec", name, "/bin/sh", "-c", "echo $((6 * 7))"]).await?;
    if printed.trim() != "42" {
        return Err(CliError::usage(format!("exec printed {printed:?}, not 42")));
    }
    report.passed("exec")?;
    run_mimeo(&["rm", "--force", name]).await?;
    wait_until_gone(engine, &found).await?;
    report.passed("cleanup: no process, socket or file is left")
}

/// The image, and the command to run in it.
fn prepare_image(engine: &Engine, args: &Args) -> Result<(String, Vec<String>), CliError> {
    if let Some(image) = &args.image {
        return Ok((image.clone(), Vec::new()));
    }
    let image = busybox::import(engine)?.ok_or_else(|| {
        CliError::usage(
            "this host has no static busybox: install it (apt-get install busybox-static), or give --image",
        )
    })?;
    let port = args.port.to_string();
    let command = ["/bin/httpd", "-f", "-p", &port, "-h", "/www"];
    Ok((image, command.map(str::to_owned).to_vec()))
}

/// Logs an error that does not change the result.
fn log_failure(outcome: Result<String, CliError>) {
    if let Err(error) = outcome {
        tracing::debug!(component = "sanity", %error, "cannot clean up");
    }
}

async fn start(name: &str, image: &str, port: u16, command: &[String]) -> Result<(), CliError> {
    let publish = format!("127.0.0.1::{port}");
    let url = format!("http://127.0.0.1:{port}/");
    let run = ["run", "--detach", "--name", name, "--publish", &publish, "--health-url", &url, image];
    let arguments: Vec<&str> = run.into_iter().chain(command.iter().map(String::as_str)).collect();
    run_mimeo(&arguments).await.map(drop)
}

/// Runs this program as a user would; returns its standard output.
async fn run_mimeo(arguments: &[&str]) -> Result<String, CliError> {
    let program = std::env::current_exe().map_err(|source| CliError::io("find this program", source))?;
    let command = format!("mimeo {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| CliError::io(command.clone(), source))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CliError::usage(format!("`{command}` failed ({}): {printed}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn wait_until_healthy(engine: &Engine, name: &str) -> Result<Found, CliError> {
    let started = Instant::now();
    let selector = Selector::NameOrId(name.to_owned());
    loop {
        let found = engine.registry().find(&selector)?;
        let health = found.record.health.as_ref();
        if health.is_some_and(|health| health.status == HealthStatus::Healthy) {
            return Ok(found);
        }
        if started.elapsed() > HEALTH_TIMEOUT || !found.supervised {
            let last = health.and_then(|health| health.last_failure.clone()).unwrap_or_default();
            return Err(CliError::usage(format!(
                "not healthy within {} s: {last}",
                HEALTH_TIMEOUT.as_secs()
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Sends an HTTP request to the published port from the host.
async fn check_port(found: &Found) -> Result<(), CliError> {
    let port =
        crate::view::published(&found.record).first().and_then(|port| port.host_port).unwrap_or_default();
    let get = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        Ok::<_, std::io::Error>(response)
    };
    let step = || format!("get http://127.0.0.1:{port}/");
    let response = timeout(STEP_TIMEOUT, get)
        .await
        .map_err(|_| CliError::io(step(), std::io::ErrorKind::TimedOut.into()))?
        .map_err(|source| CliError::io(step(), source))?;
    if response.starts_with(b"HTTP/1.") {
        return Ok(());
    }
    let start = String::from_utf8_lossy(&response[..response.len().min(80)]).into_owned();
    Err(CliError::usage(format!("port {port} answered {start:?}, which is not HTTP")))
}

async fn wait_until_gone(engine: &Engine, found: &Found) -> Result<(), CliError> {
    let started = Instant::now();
    loop {
        let leftovers = leftovers(engine, found);
        if leftovers.is_empty() {
            return Ok(());
        }
        if started.elapsed() > STEP_TIMEOUT {
            return Err(CliError::usage(format!("left behind: {}", leftovers.join(", "))));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn leftovers(engine: &Engine, found: &Found) -> Vec<String> {
    let record = &found.record;
    let processes = [Some(&record.supervisor), record.vmm.as_ref()].into_iter().flatten();
    let alive = processes.filter(|process| ProcessIdentity::is_alive(process));
    let paths = [found.dir.clone(), engine.home().machine_run(&record.id)];
    let existing = paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string());
    alive.map(|process| format!("process {}", process.pid)).chain(existing).collect()
}
