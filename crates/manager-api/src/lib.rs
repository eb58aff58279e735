//! The manager's HTTP API, `/v1`, as JSON: requests, items and errors.
//!
//! The server and its clients share these types. Requests refuse unknown fields; items may get more fields.

mod create_machine;
mod event;
mod exec;
mod figures;
mod files;
mod image;
mod log;
mod machine;
mod named_volume;
mod operation;
mod page;
mod problem;
mod quota;
mod runtime_snapshot;
mod server;
mod snapshot;
pub mod stream;
mod user;

pub use create_machine::{
    Accelerator, CreateMachine, ExposedPort, HealthCheck, HealthOnFailure, ImageVolumes, Log, LogDriver,
    Network, NetworkMode, Port, Protocol, PullPolicy, Registry, RegistryAuth, Resources, Restart,
    RestartKind, Security, Ulimit, Volume,
};
pub use event::{Event, EventChain, EventList};
pub use exec::{Encoding, ExecRequest, ExecResult};
pub use figures::{
    GuestIp, GuestIpSource, GuestMetrics, KillRequest, MachineMetrics, MetricsSource, ProcessItem,
    ProcessMetrics, ReportGuestIp,
};
pub use files::{FileItem, FileType, MakeDirectory};
pub use image::{Image, ImagePull, PruneImages, PullImage, PullLayers, RemovedImages};
pub use log::{ConsoleMessage, LogEntry, LogStream};
pub use machine::{
    Exit, Failure, Health, Machine, MachineNetwork, MachineState, PatchMachine, PublishedPort, Stage,
};
pub use named_volume::{CreateVolume, NamedVolume};
pub use operation::{Operation, OperationKind, OperationStatus, Progress, Resource, ResourceKind};
pub use page::{Accepted, Item, Items};
pub use problem::Problem;
pub use quota::{Quota, QuotaReport, Usage};
pub use runtime_snapshot::{CreateRuntimeSnapshot, RuntimeSnapshot, RuntimeSnapshotBuild, RuntimeVolume};
pub use server::{About, HealthReport};
pub use snapshot::{
    CloneRequest, CloneResult, CloneResults, CreateSnapshot, Pool, PoolState, PutPool, Snapshot,
    SnapshotKind, SnapshotState,
};
pub use user::{CreateToken, CreateUser, CreatedToken, PatchUser, Role, Scope, Token, User, WhoAmI};
