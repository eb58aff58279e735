//! The command line's grammar. Each command's own arguments are in its file.

use clap::{Parser, Subcommand};

use crate::backend::target::TargetArgs;
use crate::commands::{
    attach, base, commit, completion, container, context, cp, create, diff, events, exec, export, fork,
    generate, healthcheck, image, inspect, kill, login, logout, logs, man, manager, pause, port, prune, ps,
    rename, restart, rm, run, sandbox, setup, snapshot, start, stats, stop, system, test, top, unpause,
    update, version, volume, wait,
};
use crate::deferred::Deferred;
use crate::logging::{LOG_VARIABLE, LogLevel};

/// Run each OCI image in its own microVM.
#[derive(Debug, Parser)]
#[command(name = "mimeo", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  mimeo setup\n  mimeo run --rm -it alpine\n  mimeo run -d --name web -p 8080:80 nginx\n  mimeo ps"
)]
pub(crate) struct Arguments {
    /// How much to log on standard error
    #[arg(long, global = true, value_enum, default_value = "warn", env = LOG_VARIABLE)]
    pub(crate) log_level: LogLevel,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Podman(Podman),
    /// The podman-compatible commands, also available without this prefix
    #[command(subcommand, name = "podman")]
    Named(Podman),
    /// Manage snapshots of machines and start clones from them
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Manage sandboxes: machines with whole systems, made from bases
    #[command(subcommand)]
    Sandbox(sandbox::Verb),
    /// Clone a running machine: every clone starts, or none does
    Fork(fork::Args),
    /// Manage bases: disk images of whole systems
    #[command(subcommand)]
    Base(base::Verb),
    /// Manage the contexts: managers on whose hosts commands act
    #[command(subcommand)]
    Context(context::Verb),
    /// Prepare this host: kernel, initramfs and boot snapshot
    Setup(setup::Args),
    /// Serve machines over HTTP
    Manager(manager::Args),
    /// Generate configuration for other programs
    #[command(subcommand)]
    Generate(generate::Verb),
    /// Test whether machines work on this host
    #[command(subcommand)]
    Test(test::Verb),
    /// Print a shell's completion script
    Completion(completion::Args),
    /// Write manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Supervise one machine, described on standard input
    #[command(hide = true)]
    Supervisor,
}

/// Commands that may also be written `mimeo podman …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Podman {
    /// Run an image in a new machine (microVM)
    Run(Deferred<run::Args>),
    /// Create a machine without starting it
    Create(Deferred<create::Args>),
    /// Start machines that exist and do not run
    Start(start::Args),
    /// Stop machines and start them again
    Restart(restart::Args),
    /// Attach to the standard streams of a running machine's container
    Attach(attach::Args),
    /// Give a machine another name
    Rename(rename::Args),
    /// Change a machine's labels, restart policy or size
    Update(update::Args),
    /// Run a command in a running machine
    Exec(exec::Args),
    /// List machines
    #[command(visible_alias = "ls", alias = "list")]
    Ps(ps::Args),
    /// Show details of machines, images or named volumes
    Inspect(inspect::Args),
    /// Show the output of a machine's container
    Logs(logs::Args),
    /// Stop machines
    Stop(stop::Args),
    /// Send a signal to machines' containers
    Kill(kill::Args),
    /// Wait until machines exit, and print their exit codes
    Wait(wait::Args),
    /// Remove machines
    Rm(rm::Args),
    /// Pause machines: stop their vCPUs
    Pause(pause::Args),
    /// Resume paused machines
    Unpause(unpause::Args),
    /// List a machine's published ports
    Port(port::Args),
    /// Show a machine's processes, or all machines, updated live
    Top(top::Args),
    /// Show machines' resource usage, updated live
    Stats(stats::Args),
    /// Copy files between the host and machines
    Cp(cp::Args),
    /// List what a machine's container has changed of its image
    Diff(diff::Args),
    /// Make an image of what a machine's container has changed
    Commit(commit::Args),
    /// Remove machines that do not run
    #[command(hide = true)]
    Prune(prune::Args),
    /// Write a machine's filesystem as a tar archive
    Export(export::Args),
    /// Show events of machines
    Events(events::Args),
    /// Manage images
    #[command(subcommand)]
    Image(image::Verb),
    /// Pull images
    Pull(image::pull::Args),
    /// List images
    Images(image::ls::Args),
    /// Remove images
    Rmi(image::rm::Args),
    /// Import a root filesystem from a tar file as an image
    Import(image::import::Args),
    /// Show the steps that built an image
    History(image::history::Args),
    /// Give an image further names
    Tag(image::tag::Args),
    /// Take names from an image
    Untag(image::untag::Args),
    /// Write images to an archive or a directory
    Save(image::save::Args),
    /// Load images from an archive
    Load(image::load::Args),
    /// Push an image to a registry
    Push(image::push::Args),
    /// Search a registry for images
    Search(image::search::Args),
    /// Log in to a registry
    Login(login::Args),
    /// Remove the stored login of a registry
    Logout(logout::Args),
    /// Show mimeo's version, drivers and directories
    Version(version::Args),
    /// The long form of the commands on machines
    #[command(subcommand)]
    Container(container::Verb),
    /// Run health checks
    #[command(subcommand)]
    Healthcheck(healthcheck::Verb),
    /// Show the host, the directories and the number of machines
    Info(system::info::Args),
    /// Show and free what mimeo uses of the host
    #[command(subcommand)]
    System(system::Verb),
    /// Manage named volumes
    #[command(subcommand)]
    Volume(volume::Verb),
}
