//! podman with the same image, for comparison.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::lab::{IMAGE, LAYOUT, Lab};

/// Hosts with lower hard limits than podman's defaults refuse to start without these.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// podman with the image loaded; the image is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Podman {
    /// The output of `podman --version`.
    version: String,
    /// The network mode of its containers.
    network: &'static str,
}

/// podman's default for root; it needs plugins from separate packages.
const BRIDGE: &str = "bridge";
/// The fallback without these plugins: podman's user-mode network, the closest to mimeo's.
const USER_MODE: &str = "slirp4netns";
/// No network at all.
pub(super) const NO_NETWORK: &str = "none";

/// An idle container; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
}

impl Podman {
    /// Loads the image and checks that it runs.
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let version = stdout_of(podman(&["--version"])).context("podman is missing or broken")?;
        stdout_of(load(lab))?;
        let mut this = Self { version, network: BRIDGE };
        // These runs are not counted.
        if stdout_of(this.run(BRIDGE, &["true"])).is_err() {
            this.network = USER_MODE;
            stdout_of(this.run(USER_MODE, &["true"]))?;
        }
        stdout_of(this.run(NO_NETWORK, &["true"]))?;
        Ok(this)
    }

    /// Its version and network mode.
    pub(super) fn description(&self) -> String {
        format!("{}, with runc and network {}", self.version, self.network)
    }

    /// The network mode that works on this host.
    pub(super) fn network(&self) -> &'static str {
        self.network
    }

    /// `podman run --rm`.
    pub(super) fn run(&self, network: &str, words: &[&str]) -> Command {
        let mut command = podman(&["run", "--rm", "--network", network]);
        command.args(LIMITS).arg(IMAGE).args(words);
        command
    }

    /// Starts an idle container.
    pub(super) fn start(&self) -> Result<Container> {
        self.start_with(&[])
    }

    /// Starts an idle container with further options.
    pub(super) fn start_with(&self, options: &[&str]) -> Result<Container> {
        let mut command = podman(&["run", "--detach", "--rm", "--network", self.network]);
        command.args(LIMITS).args(options).args([IMAGE, "sleep", "86400"]);
        Ok(Container { id: stdout_of(command)? })
    }
}

impl Container {
    /// `podman exec`.
    pub(super) fn exec(&self, words: &[&str]) -> Command {
        let mut command = podman(&["exec", &self.id]);
        command.args(words);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        report_error(stdout_of(podman(&["rm", "--force", "--time", "0", &self.id])));
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        report_error(stdout_of(podman(&["rmi", IMAGE])));
    }
}

/// podman names an image after the given path. The relative path `LAYOUT` yields `IMAGE`;
/// an absolute path may contain characters that are invalid in a name.
fn load(lab: &Lab) -> Command {
    let mut command = podman(&["pull", "--quiet", &format!("oci:{LAYOUT}:latest")]);
    command.current_dir(lab.dir());
    command
}

fn report_error(outcome: Result<String>) {
    if let Err(error) = outcome {
        eprintln!("podman: {error:#}");
    }
}

fn podman(args: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.args(["--runtime", "runc"]).args(args);
    command
}

fn stdout_of(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
