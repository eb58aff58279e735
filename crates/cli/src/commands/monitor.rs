//! The hidden command behind `run -d`: owns one machine in the background.

use std::fs::{File, OpenOptions};
use std::io::Write;

use mimeo_engine::{Attachment, Engine, Home, MachineSpec, Record, monitor};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin};

use crate::error::{CliError, explain};
use crate::progress;

/// What the monitor is to do, as one line of JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The machine.
    pub(crate) spec: MachineSpec,
    /// Show no progress.
    pub(crate) quiet: bool,
}

/// Makes the machine, says its id, lets go of the terminal and stays.
pub(crate) async fn run(engine: &Engine) -> Result<i32, CliError> {
    // Fails when we lead a group already, and then the terminal is not ours.
    rustix::process::setsid().ok();
    let mut input = BufReader::new(stdin());
    let mut line = String::new();
    input.read_line(&mut line).await.map_err(|source| CliError::io("read what to do", source))?;
    let Order { spec, quiet } = serde_json::from_str(&line)?;
    let given_up = async move {
        let mut rest = Vec::new();
        // Its end, however it comes, is all that matters.
        input.read_to_end(&mut rest).await.ok();
    };
    let progress = progress::shown(quiet);
    let home = engine.home();
    let exit =
        monitor(engine, spec, Attachment::default(), progress, given_up, |record| let_go(home, record)).await;
    Ok(exit.map_err(explain)?.code)
}

/// Says the machine's id and leaves the terminal: from here on the log is a file.
fn let_go(home: &Home, record: &Record) {
    let mut stdout = std::io::stdout().lock();
    // Who started us may have gone; the machine runs all the same.
    writeln!(stdout, "{}", record.id).and_then(|()| stdout.flush()).ok();
    let log = home.machine(&record.id).join("monitor.log");
    let log = OpenOptions::new().create(true).append(true).open(log);
    if let (Ok(null), Ok(log)) = (File::options().read(true).write(true).open("/dev/null"), log) {
        rustix::stdio::dup2_stdin(&null).ok();
        rustix::stdio::dup2_stdout(&null).ok();
        rustix::stdio::dup2_stderr(&log).ok();
    }
}
