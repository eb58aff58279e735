//! Says what is done, does it, and says how long it took.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The release build of mimeo.
pub(crate) fn mimeo() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    // target/<profile>/xtask
    let target = own.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
    target.join("release/mimeo")
}

/// Announces a step, runs it, and says how long it took.
pub(crate) fn step<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {what}");
    let begun = Instant::now();
    let outcome = act().with_context(|| what.to_owned())?;
    println!("   ({})", seconds(begun));
    Ok(outcome)
}

/// Shows a mimeo command and runs it, its output on this terminal.
pub(crate) fn show(args: &[&str]) -> Result<()> {
    println!("$ mimeo {}", shell_words(args));
    let status = Command::new(mimeo()).args(args).status().context("mimeo does not start")?;
    ensure!(status.success(), "mimeo {} ended with {status}", args[0]);
    Ok(())
}

/// Runs a mimeo command without a word; what it printed.
pub(crate) fn quiet(args: &[&str]) -> Result<String> {
    let output = Command::new(mimeo()).args(args).stdin(Stdio::null()).output()?;
    text(&format!("mimeo {}", args[0]), output)
}

/// Runs another program without a word; what it printed.
pub(crate) fn program(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(name)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not start: is it installed?"))?;
    text(name, output)
}

fn text(name: &str, output: Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, told.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn seconds(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}

fn shell_words(args: &[&str]) -> String {
    let quoted = args.iter().map(|arg| {
        let plain = arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b));
        if plain && !arg.is_empty() { (*arg).to_owned() } else { format!("'{arg}'") }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
