//! The manager's HTTP API, `/v1`, as JSON: requests, items and errors.
//!
//! The server and its clients share these types. Requests refuse unknown fields; items may get more fields.

mod create_machine;
mod event;
mod exec;
mod machine;
mod operation;
mod page;
mod problem;
mod quota;
mod server;
mod user;

pub use create_machine::{
    Accelerator, CreateMachine, ExposedPort, HealthCheck, HealthOnFailure, ImageVolumes, Log, LogDriver,
    Network, NetworkMode, Port, Protocol, PullPolicy, Registry, RegistryAuth, Resources, Restart,
    RestartKind, Security, Ulimit, Volume,
};
pub use event::{Event, EventChain, EventList};
pub use exec::{Encoding, ExecRequest, ExecResult};
pub use machine::{
    Exit, Failure, Health, Machine, MachineNetwork, MachineState, PatchMachine, PublishedPort, Stage,
};
pub use operation::{Operation, OperationKind, OperationStatus, Progress, Resource, ResourceKind};
pub use page::{Accepted, Item, Items};
pub use problem::Problem;
pub use quota::{Quota, QuotaReport, Usage};
pub use server::{About, HealthReport};
pub use user::{CreateToken, CreateUser, CreatedToken, PatchUser, Role, Scope, Token, User, WhoAmI};
