//! The HTTP API of the manager.

mod create_machine;

pub use create_machine::{
    Accelerator, CreateMachine, ExposedPort, HealthCheck, HealthOnFailure, ImageVolumes, Log, LogDriver,
    Network, NetworkMode, Port, Protocol, PullPolicy, Registry, RegistryAuth, Resources, Restart,
    RestartKind, Security, Ulimit, Volume,
};
