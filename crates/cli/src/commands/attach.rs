//! `mimeo attach`: attaches to the standard streams of a running machine's container.

use mimeo_engine::machine::Phase;
use mimeo_engine::{Exit, Found};

use crate::backend::{AttachRequest, Attached, Host, RemoteError};
use crate::commands::select::Machine;
use crate::detach_keys::{self, DetachKeys};
use crate::error::CliError;
use crate::interruption::interruption;
use crate::stdio::{self, ClientEnd, ClientError, ClientStreams, OutputStreams};
use crate::terminal::{self, RawTerminal, watch_size};

/// Arguments of `mimeo attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo attach web\n  mimeo attach --no-stdin --sig-proxy=false web")]
pub(crate) struct Args {
    /// Keys that detach the terminal from the machine, which runs on; empty for none
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Do not pass standard input to the container
    #[arg(long)]
    no_stdin: bool,
    /// Forward signals to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    machine: Machine,
}

/// What to attach, and how to end it.
pub(crate) struct AttachOptions {
    /// Pass standard input to the container, if it was created with --interactive.
    pub(crate) stdin: bool,
    pub(crate) detach_keys: DetachKeys,
    /// Do not forward signals to the container.
    pub(crate) keep_signals: bool,
    pub(crate) output: OutputStreams,
    /// Start the machine first.
    pub(crate) start: bool,
}

/// Attaches until the machine exits, and returns its exit code; or until the user detaches.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let detach_keys = args.detach_keys.parse()?;
    let found = args.machine.find(host).await?;
    if !found.supervised || found.record.phase() != Phase::Running {
        let state = found.record.phase();
        return Err(CliError::usage(format!(
            "cannot attach to machine {}: it is {state}",
            found.record.name
        )));
    }
    let options = AttachOptions {
        stdin: !args.no_stdin,
        detach_keys,
        keep_signals: !args.sig_proxy,
        output: OutputStreams::default(),
        start: false,
    };
    attach(host, &found, options).await
}

/// Attaches this process's streams to a machine's container.
pub(crate) async fn attach(host: &Host, found: &Found, options: AttachOptions) -> Result<i32, CliError> {
    let attached = open(host, found, &options).await?;
    forward(found, attached, options).await
}

/// Attaches to a machine's container, which is started first if the options say so.
pub(crate) async fn open(host: &Host, found: &Found, options: &AttachOptions) -> Result<Attached, CliError> {
    let spec = &found.record.spec;
    let size = spec.tty.then(terminal::size);
    let request = AttachRequest { stdin: options.stdin && spec.interactive, start: options.start, size };
    host.attach(found, request).await
}

/// Forwards this process's streams until the machine exits, or the user detaches.
pub(crate) async fn forward(
    found: &Found,
    attached: Attached,
    options: AttachOptions,
) -> Result<i32, CliError> {
    let spec = &found.record.spec;
    let interactive = options.stdin && spec.interactive;
    let Attached { stream, mut end } = attached;
    let size = if spec.tty { Some(watch_size()?) } else { None };
    let raw = if spec.tty && interactive { RawTerminal::enter()? } else { None };
    let AttachOptions { detach_keys, keep_signals, output, .. } = options;
    // Data that is piped in may happen to contain the keys.
    let detach_keys = if raw.is_some() { detach_keys } else { DetachKeys::default() };
    let streams = ClientStreams { interactive, size, detach_keys, keep_signals, shares_output: true, output };
    let ended = stdio::forward_until_exit(stream, streams).await;
    drop(raw);
    let own_code = match ended {
        Ok(ClientEnd::Detached) => return Ok(0),
        Ok(ClientEnd::Interrupted(code)) => return Ok(code),
        Ok(ClientEnd::Exited(code)) => code,
        Err(error @ ClientError::Detached(_)) => return Err(error.into()),
        // Without a status, the machine's exit says what happened.
        Err(ClientError::Link(_) | ClientError::Remote(RemoteError::Lost { .. })) => 0,
        Err(error @ ClientError::Remote(_)) => return Err(error.into()),
    };
    let exit = tokio::select! {
        exit = end.exit() => exit?,
        signal = interruption() => return Ok(128 + signal),
    };
    end.finish().await?;
    // If output was lost, the code says so where the machine's own is 0.
    exit_code(exit).map(|code| if code == 0 { own_code } else { code })
}

fn exit_code(exit: Exit) -> Result<i32, CliError> {
    match exit.error {
        Some(error) => Err(CliError::usage(error).with_code(exit.code)),
        None => Ok(exit.code),
    }
}
