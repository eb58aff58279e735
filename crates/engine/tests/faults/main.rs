//! Failures of a start that no real machine produces on demand, with the fake
//! driver: the error names its stage, and nothing is left behind.

mod clones;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::link::{self, FrameReader};
use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Reply, Request};
use mimeo_engine::create::{Stage, StageError, Start, StartOptions};
use mimeo_engine::{Attachment, Engine, Exit, Home, MachineSpec, SupervisorError, supervise};
use mimeo_image::{ImportOptions, Quiet};
use mimeo_setup::kernel::{Entry, FORMAT, Image, Manifest, Modules, Origin};
use mimeo_vmm::Driver;
use mimeo_vmm::fake::{Fake, Faults};
use tokio::net::UnixStream;

/// A home directory with an image, and with a kernel that the fake driver never boots.
struct World {
    _dir: tempfile::TempDir,
    home: Home,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/tmp").expect("a directory");
        let home = Home::at(dir.path().join("h"), dir.path().join("r")).expect("a home");
        write_kernel(home.home());
        Self { _dir: dir, home }
    }

    fn engine(&self, driver: Fake) -> Engine {
        let engine = Engine::with_drivers(self.home.clone(), [Arc::new(driver) as Arc<dyn Driver>]);
        let options =
            ImportOptions { name: Some("localhost/x".parse().expect("a name")), ..Default::default() };
        let empty = tar::Builder::new(Vec::new()).into_inner().expect("an empty archive");
        let images = engine.images().expect("a store");
        images.import(&empty[..], Path::new("empty.tar"), &options, Arc::new(Quiet)).expect("imported");
        engine
    }

    /// Asserts that no machine and no socket is left.
    fn assert_empty(&self) {
        let entries = |dir: &Path| fs::read_dir(dir).expect("readable").flatten().count();
        assert_eq!(entries(&self.home.machines()), 0, "a machine is left");
        assert_eq!(entries(&self.home.run().join("machines")), 0, "a socket is left");
    }
}

fn write_kernel(home: &Path) {
    let dir = home.join("kernels/fake");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("vmlinux"), "no kernel").expect("written");
    let manifest = Manifest {
        format: FORMAT,
        name: "fake".into(),
        release: "0".into(),
        origin: Origin::File { path: "vmlinux".into(), modules: None },
        image: Image { file: "vmlinux".into(), entry: Entry::Pvh, sha256: "0".repeat(64) },
        fallback: None,
        modules: Modules::default(),
    };
    fs::write(dir.join("kernel.json"), serde_json::to_vec(&manifest).expect("JSON")).expect("written");
    std::os::unix::fs::symlink("fake", home.join("kernels/default")).expect("linked");
}

fn spec() -> MachineSpec {
    MachineSpec {
        command: vec!["work".into()],
        driver: "fake".into(),
        start_timeout: 1,
        remove: true,
        ..MachineSpec::new("localhost/x")
    }
}

/// A guest that answers each request with the reply that `answer` returns, and
/// whose container ends with `status`.
fn guest(
    status: ExitStatus,
    answer: impl Fn(&Request) -> Option<Reply> + Clone + Send + Sync + 'static,
) -> impl Fn(UnixStream) + Send + Sync + 'static {
    move |socket| {
        let answer = answer.clone();
        tokio::spawn(async move {
            let (reader, writer) = socket.into_split();
            let mut session =
                link::accept(FrameReader::new(reader), writer, "fake guest").await.expect("a host");
            while let Some((request, stream)) = session.incoming.next().await {
                let request: Request = serde_json::from_slice(&request).expect("a request");
                let reply = answer(&request);
                let started = matches!(request, Request::Start(_)) && reply.is_none();
                let default = if started { Reply::Started { pid: 1 } } else { Reply::Done };
                stream.sender.message(&reply.unwrap_or(default));
                if started {
                    stream.sender.message(&Reply::Exited { status });
                }
            }
        });
    }
}

fn good_guest() -> impl Fn(UnixStream) + Send + Sync + 'static {
    guest(ExitStatus::Code(0), |_| None)
}

async fn run(engine: &Engine, spec: MachineSpec) -> Result<Exit, SupervisorError> {
    let never = std::future::pending();
    supervise(engine, Start::New(Box::new(spec)), Attachment::default(), unobserved(), never, |_| {}).await
}

fn unobserved() -> StartOptions {
    StartOptions::new(Arc::new(Quiet))
}

/// Runs a start that must fail; returns the stage and the error.
async fn failure(world: &World, driver: Fake) -> (Stage, StageError) {
    match run(&world.engine(driver), spec()).await {
        Err(SupervisorError::Start(error)) => {
            world.assert_empty();
            (error.stage, error.source)
        }
        other => panic!("a failed start, not {other:?}"),
    }
}

#[tokio::test]
async fn a_guest_runs_until_its_container_exits() {
    let world = World::new();
    for (status, code) in
        [(ExitStatus::Code(3), 3), (ExitStatus::Signal(9), 137), (ExitStatus::OutOfMemory, 137)]
    {
        let engine = world.engine(Fake::new(guest(status, |_| None), Faults::default()));
        let exit = run(&engine, spec()).await.expect("an exit");
        assert_eq!((exit.code, exit.out_of_memory), (code, status == ExitStatus::OutOfMemory));
        world.assert_empty();
    }
}

#[tokio::test]
async fn a_missing_vmm_is_reported() {
    let world = World::new();
    let faults = Faults { not_installed: true, ..Faults::default() };
    let (stage, error) = failure(&world, Fake::new(good_guest(), faults)).await;
    assert_eq!(
        (stage, error.to_string().as_str()),
        (Stage::Launch, "fake is not installed: `mimeo setup preflight` says how to install it")
    );
}

#[tokio::test]
async fn a_silent_guest_leaves_a_hang_dump() {
    let world = World::new();
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let (stage, error) = failure(&world, Fake::new(good_guest(), faults)).await;
    assert!(stage == Stage::Boot && matches!(error, StageError::Silent { seconds: 1, .. }), "{error}");
    let text = error.to_string();
    let (_, dump) = text.split_once("evidence in ").expect("the error names the dump");
    let summary = fs::read_to_string(Path::new(dump).join("summary.txt")).expect("a summary");
    assert!(summary.contains("waited: no answer from the guest within 1 s"), "{summary}");
    for file in ["process", "threads-1", "threads-2", "console"] {
        assert!(Path::new(dump).join(format!("{file}.txt")).is_file(), "{file} is missing");
    }
}

#[tokio::test]
async fn a_vmm_that_dies_during_boot_is_reported() {
    let world = World::new();
    let faults =
        Faults { silent_guest: true, dies_after: Some(Duration::from_millis(50)), ..Faults::default() };
    let (stage, error) = failure(&world, Fake::new(good_guest(), faults)).await;
    assert!(stage == Stage::Boot && error.to_string().contains("injected fault"), "{error}");
}

#[tokio::test]
async fn a_vmm_that_dies_later_ends_the_machine() {
    let world = World::new();
    let endless = guest(ExitStatus::Code(0), |request| {
        // Started, and never exits.
        matches!(request, Request::Start(_)).then_some(Reply::Started { pid: 1 })
    });
    let faults = Faults { dies_after: Some(Duration::from_millis(300)), ..Faults::default() };
    let exit = run(&world.engine(Fake::new(endless, faults)), spec()).await.expect("an exit");
    assert_eq!(exit.code, 125);
    assert!(exit.error.is_some_and(|error| error.contains("injected fault")));
    world.assert_empty();
}

#[tokio::test]
async fn a_guest_that_sends_garbage_is_refused() {
    let world = World::new();
    let garbage = |socket: UnixStream| {
        tokio::spawn(async move {
            let bytes = [&mimeo_agent_protocol::frame::PREAMBLE[..], &[0xAA; 4096]].concat();
            // Ends when the host closes the connection.
            while socket.writable().await.is_ok() && socket.try_write(&bytes).is_ok() {}
        });
    };
    let (stage, error) = failure(&world, Fake::new(garbage, Faults::default())).await;
    assert_eq!(stage, Stage::Boot, "{error}");
}

#[tokio::test]
async fn a_guest_with_another_protocol_is_refused() {
    let world = World::new();
    let other_protocol = |socket: UnixStream| {
        tokio::spawn(async move {
            let payload = br#"{"protocol":999,"generation":1,"name":"mimeo-agent 9"}"#;
            let frame = mimeo_agent_protocol::frame::Frame {
                session: 1,
                stream: 0,
                kind: mimeo_agent_protocol::frame::Kind::Hello,
                channel: 0,
                payload: bytes::Bytes::from_static(payload),
            };
            let all = [&mimeo_agent_protocol::frame::PREAMBLE[..], &frame.header(), payload].concat();
            socket.writable().await.expect("a host");
            socket.try_write(&all).expect("written");
            std::future::pending::<()>().await;
        });
    };
    let (stage, error) = failure(&world, Fake::new(other_protocol, Faults::default())).await;
    assert_eq!(stage, Stage::Boot);
    let message = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(message.contains("speaks protocol 999"), "{error}: {message}");
}

#[tokio::test]
async fn a_failed_configuration_is_reported() {
    let world = World::new();
    let refusing = guest(ExitStatus::Code(0), |request| {
        let message = "no disk image".to_owned();
        matches!(request, Request::Configure(_))
            .then_some(Reply::Failed(Failure { kind: FailureKind::NotFound, message }))
    });
    let (stage, error) = failure(&world, Fake::new(refusing, Faults::default())).await;
    assert_eq!((stage, error.to_string().as_str()), (Stage::Configure, "no disk image"));
}

#[tokio::test]
async fn a_guest_that_hangs_during_configuration_times_out() {
    let world = World::new();
    let hanging = |socket: UnixStream| {
        tokio::spawn(async move {
            let (reader, writer) = socket.into_split();
            let session = link::accept(FrameReader::new(reader), writer, "fake guest").await.expect("a host");
            // Never replies.
            std::future::pending::<()>().await;
            drop(session);
        });
    };
    let (stage, error) = failure(&world, Fake::new(hanging, Faults::default())).await;
    assert!(stage == Stage::Start && matches!(error, StageError::Silent { .. }), "{error}");
}

#[tokio::test]
async fn unrunnable_commands_have_podmans_exit_codes() {
    for (kind, code) in [(FailureKind::CommandNotFound, 127), (FailureKind::CommandNotExecutable, 126)] {
        let world = World::new();
        let refusing = guest(ExitStatus::Code(0), move |request| {
            let failure = Failure { kind, message: "no".to_owned() };
            matches!(request, Request::Start(_)).then_some(Reply::Failed(failure))
        });
        let outcome = run(&world.engine(Fake::new(refusing, Faults::default())), spec()).await;
        assert_eq!(outcome.expect_err("refused").exit_code(), code);
        world.assert_empty();
    }
}

#[tokio::test]
async fn a_cancelled_start_is_undone() {
    let world = World::new();
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let engine = world.engine(Fake::new(good_guest(), faults));
    let soon = tokio::time::sleep(Duration::from_millis(100));
    let outcome =
        supervise(&engine, Start::New(Box::new(spec())), Attachment::default(), unobserved(), soon, |_| {})
            .await;
    assert!(matches!(outcome, Err(SupervisorError::Cancelled)), "{outcome:?}");
    world.assert_empty();
}

#[tokio::test]
async fn a_failed_start_frees_its_name() {
    let world = World::new();
    let named = || MachineSpec { name: Some("web".parse().expect("a name")), ..spec() };
    let faults = Faults { silent_guest: true, ..Faults::default() };
    run(&world.engine(Fake::new(good_guest(), faults)), named()).await.expect_err("silent");
    run(&world.engine(Fake::new(good_guest(), Faults::default())), named()).await.expect("runs");
}
