//! Runs steps and commands with their titles and times on the terminal.

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

/// Prints a step's title, runs it, and prints how long it took.
pub(crate) fn step<T>(title: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {title}");
    let begun = Instant::now();
    let outcome = run().with_context(|| title.to_owned())?;
    println!("   ({})", seconds(begun));
    Ok(outcome)
}

/// Prints a mimeo command and runs it with its output on this terminal.
pub(crate) fn show(args: &[&str]) -> Result<()> {
    println!("$ mimeo {}", shell_words(args));
    let status = Command::new(mimeo()).args(args).status().context("cannot start mimeo")?;
    ensure!(status.success(), "mimeo {} ended with {status}", args[0]);
    Ok(())
}

/// Runs a mimeo command; returns its standard output.
pub(crate) fn mimeo_output(args: &[&str]) -> Result<String> {
    let output = Command::new(mimeo()).args(args).stdin(Stdio::null()).output()?;
    checked_stdout(&format!("mimeo {}", args[0]), output)
}

/// Runs another program; returns its standard output.
pub(crate) fn program_output(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(name)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}: is it installed?"))?;
    checked_stdout(name, output)
}

fn checked_stdout(name: &str, output: Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, stderr.trim());
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
