//! A PostgreSQL server of a test's own, from Debian's package.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{signal, until};

/// The user who runs it, whom Debian's package makes: it refuses to be run by root, and by users without an account.
const USER: &str = "postgres";

/// A server. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    dir: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Starts an empty server on a free port of the loopback interface.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("mmpg").tempdir_in("/tmp").expect("a directory");
        let (user, group) = ids();
        chown(dir.path(), Some(user), Some(group)).expect("root changes the owner");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let mut postgres = Self { dir, port, server: None };
        // Durability is not what the tests are about.
        let arguments =
            ["--auth=trust", "--username=mimeo", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"];
        let made =
            postgres.program("initdb").args(arguments).arg(postgres.data()).output().expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.start_again();
        postgres
    }

    /// The address for `--database`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://mimeo@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends the server at once: connections break.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        signal(&server, Signal::QUIT);
        until("the server has ended", || server.try_wait().expect("a child"));
    }

    /// Stops the server's processes for now: connections stay, and new ones are made, but nothing answers.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets the server go on after [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, kind: Signal) {
        let server = self.server.as_ref().expect("it runs");
        // First the one that starts the others.
        signal(server, kind);
        let pid = server.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("readable");
        for child in children.split_whitespace() {
            let child = child.parse().ok().and_then(Pid::from_raw).expect("a PID");
            // One that has just ended needs none.
            kill_process(child, kind).ok();
        }
    }

    /// Starts the server after [`Postgres::stop`].
    pub fn start_again(&mut self) {
        let log =
            fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a file");
        let settings =
            [format!("port={}", self.port), "listen_addresses=127.0.0.1".to_owned(), "fsync=off".to_owned()];
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        settings.iter().for_each(|setting| {
            command.arg("-c").arg(setting);
        });
        self.server = Some(command.stderr(log).spawn().expect("postgres starts"));
        until("the server answers", || self.is_ready().then_some(()));
    }

    fn is_ready(&self) -> bool {
        let mut ready = self.program("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        TcpStream::connect(("127.0.0.1", self.port)).is_ok() && ready.status().expect("it starts").success()
    }

    /// Executes SQL, and returns what it prints.
    #[must_use]
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["-AtX", &self.url(), "-c", statement]);
        let output = psql.stdout(Stdio::piped()).output().expect("psql starts");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        let (user, group) = ids();
        command.uid(user).gid(group).current_dir(self.dir.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("PGCONNECT_TIMEOUT", "10");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A frozen process would not end.
        if self.server.is_some() {
            self.thaw();
        }
        self.stop();
    }
}

/// The user's id and group id.
fn ids() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("readable");
    let fields =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == USER);
    let fields = fields.expect("postgresql is missing: apt-get install postgresql (see `make deps`)");
    (fields[2].parse().expect("an id"), fields[3].parse().expect("an id"))
}

/// Debian's directory of the server's programs, which has the version in it.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let directories = versions.map(|version| version.path().join("bin"));
    let found = directories.filter(|dir| Path::exists(&dir.join("initdb"))).max();
    found.expect("postgresql is missing: apt-get install postgresql (see `make deps`)")
}
