//! podman beside mimeo: the same image, in the same run.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::lab::{IMAGE, LAYOUT, Lab};

/// Hosts with lower hard limits than podman's defaults refuse to start without these.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// podman with the image loaded; the image goes with it.
#[derive(Debug)]
pub(super) struct Podman {
    /// What it calls itself.
    version: String,
    /// The network of its containers.
    network: &'static str,
}

/// podman's default for root; it needs plugins that are packages of their own.
const BRIDGE: &str = "bridge";
/// Without them: its user-mode network, the nearest to mimeo's.
const USER_MODE: &str = "slirp4netns";
/// No network at all.
pub(super) const NO_NETWORK: &str = "none";

/// A container that waits; it goes with this.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
}

impl Podman {
    /// Loads the image and sees that it runs.
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let version = finish(podman(&["--version"])).context("podman is missing or broken")?;
        finish(load(lab))?;
        let mut this = Self { version, network: BRIDGE };
        // These runs are not counted.
        if finish(this.run(BRIDGE, &["true"])).is_err() {
            this.network = USER_MODE;
            finish(this.run(USER_MODE, &["true"]))?;
        }
        finish(this.run(NO_NETWORK, &["true"]))?;
        Ok(this)
    }

    /// What it calls itself, and which network its containers have.
    pub(super) fn told(&self) -> String {
        format!("{}, with runc and network {}", self.version, self.network)
    }

    /// The network that it has here.
    pub(super) fn network(&self) -> &'static str {
        self.network
    }

    /// `podman run --rm`.
    pub(super) fn run(&self, network: &str, words: &[&str]) -> Command {
        let mut command = podman(&["run", "--rm", "--network", network]);
        command.args(LIMITS).arg(IMAGE).args(words);
        command
    }

    /// Starts a container that waits.
    pub(super) fn start(&self) -> Result<Container> {
        let mut command = podman(&["run", "--detach", "--rm", "--network", self.network]);
        command.args(LIMITS).args([IMAGE, "sleep", "86400"]);
        Ok(Container { id: finish(command)? })
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
        tell(finish(podman(&["rm", "--force", "--time", "0", &self.id])));
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        tell(finish(podman(&["rmi", IMAGE])));
    }
}

/// podman names an image after its directory, which is `IMAGE`'s name here; of
/// the path above it not every letter would do.
fn load(lab: &Lab) -> Command {
    let mut command = podman(&["pull", "--quiet", &format!("oci:{LAYOUT}:latest")]);
    command.current_dir(lab.dir());
    command
}

fn tell(outcome: Result<String>) {
    if let Err(error) = outcome {
        eprintln!("podman: {error:#}");
    }
}

fn podman(args: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.args(["--runtime", "runc"]).args(args);
    command
}

fn finish(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", told.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
