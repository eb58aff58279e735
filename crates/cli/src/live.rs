//! A view that is redrawn on the terminal until `q` or Ctrl-C.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::CliError;
use crate::terminal::RawTerminal;

/// The interval between two frames.
pub(crate) const REFRESH: Duration = Duration::from_secs(2);
/// `q`, and Ctrl-C and Ctrl-D as bytes of a raw terminal.
const QUIT_KEYS: [u8; 4] = [b'q', b'Q', 3, 4];

/// Whether standard input and standard output are both terminals.
pub(crate) fn is_possible() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// The terminal's alternate screen. Dropping it restores the normal screen.
struct AlternateScreen {
    _raw: Option<RawTerminal>,
}

impl AlternateScreen {
    fn enter() -> Result<Self, CliError> {
        let raw = RawTerminal::enter()?;
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(Self { _raw: raw })
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        // This fails only if the terminal is gone; then there is nothing to restore.
        write("\x1b[?25h\x1b[?1049l").ok();
    }
}

fn write(text: &str) -> Result<(), CliError> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| CliError::io("write to the terminal", source))
}

/// Redraws until a quit key or a termination signal.
pub(crate) async fn run(mut draw: impl AsyncFnMut() -> Result<String, CliError>) -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|source| CliError::io("listen for signals", source));
    let (mut terminate, mut hangup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let _screen = AlternateScreen::enter()?;
    let mut keys = tokio::io::stdin();
    loop {
        // On a raw terminal a line feed does not return to the first column.
        let frame = draw().await?.replace('\n', "\x1b[K\r\n");
        write(&format!("\x1b[H{frame}\x1b[J"))?;
        let mut key = [0; 1];
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            read = keys.read(&mut key) => {
                if !matches!(read, Ok(1..)) || QUIT_KEYS.contains(&key[0]) {
                    return Ok(());
                }
            }
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}
