//! The program's main function.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use tokio::net::UnixListener;

use crate::arguments::Arguments;
use crate::http::Server;
use crate::machine::{Machine, open_log};
use crate::settings::{ExitAt, Settings};
use crate::version;

/// Firecracker's exit status for invalid arguments.
const BAD_ARGUMENTS: u8 = 153;
const DEFAULT_SOCKET: &str = "/run/firecracker.socket";
const DEFAULT_ID: &str = "anonymous-instance";

/// Runs the fake with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    match Settings::read() {
        Ok(settings) => run_with_settings(arguments, settings),
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the fake with these arguments and settings.
pub fn run_with_settings(arguments: impl Iterator<Item = String>, settings: Settings) -> ExitCode {
    let parsed = match Arguments::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("Arguments parsing error: {error}\n\nFor more information try --help.");
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match run(parsed, settings) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments, settings: Settings) -> Result<u8, String> {
    let version = settings.version.clone();
    let print = |line: String| writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string());
    if arguments.version {
        return print(format!("Firecracker v{version}\n")).map(|()| 0);
    }
    if arguments.snapshot_version {
        return print(format!("v{}", version::state_format(&version))).map(|()| 0);
    }
    let log = Log::open(arguments.log_path.as_deref(), &version)?;
    log.exit_if(&settings, "start");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        log.exit_if(&settings, "listen");
        let socket = arguments.api_sock.unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        let listener = UnixListener::bind(&socket).map_err(|error| {
            format!("Failed to open the API socket at: {socket}. Check that it is not already used. {error}")
        })?;
        let id = arguments.id.unwrap_or_else(|| DEFAULT_ID.to_owned());
        let machine = Arc::new(Mutex::new(Machine::new(id, settings)));
        Ok(Server { machine, log: Arc::new(log) }.serve(listener).await)
    })
}

/// The fake's log.
#[derive(Debug)]
pub struct Log(Option<File>);

impl Log {
    fn open(path: Option<&str>, version: &str) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self(None)) };
        let opened = open_log(path, version);
        opened.map(|file| Self(Some(file))).map_err(|error| format!("LoggerInitialization({error})"))
    }

    pub(crate) fn line(&self, text: &str) {
        // A log that cannot be written is ignored.
        self.0.iter().for_each(|mut file| writeln!(file, "[fake:main] {text}").unwrap_or_default());
    }

    /// Logs a fatal error, and prints it.
    pub(crate) fn fail(&self, text: &str) {
        self.line(text);
        eprintln!("{text}");
    }

    fn exit_if(&self, settings: &Settings, when: &str) {
        if let Some(exit) = settings.exit_at.as_ref().filter(|exit| exit.when == when) {
            self.exit(exit);
        }
    }

    /// Exits the process as configured.
    pub(crate) fn exit(&self, exit: &ExitAt) {
        let (first, rest) = exit.message.split_once('\n').unwrap_or((&exit.message, ""));
        self.line(first);
        if !rest.is_empty() {
            eprintln!("{rest}");
        }
        std::process::exit(exit.code.into());
    }
}
