//! The isolated mimeo of one test.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Image, Outcome, leftovers, prepared, until};

/// A user and group id that no account on the host uses.
const ORDINARY: u32 = 48_151;

/// The user who runs mimeo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// root.
    Root,
    /// An unprivileged user.
    Ordinary,
}

/// The home, run directory and user of one test.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    user: User,
    /// Whether the home is a separate filesystem.
    mounted: bool,
    /// Additional environment variables for the world's programs.
    variables: Vec<(String, std::ffi::OsString)>,
    /// The server of its managers, if the test run puts their records there.
    postgres: std::sync::OnceLock<crate::Postgres>,
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    let own = std::env::current_exe().expect("this test has a path");
    // target/<profile>/deps/<test>
    own.ancestors().nth(3).expect("below the target directory").to_owned()
}

/// The program under test.
pub(crate) fn mimeo_program() -> PathBuf {
    std::env::var_os("MIMEO_BIN").map_or_else(|| built_program("mimeo"), PathBuf::from)
}

/// A program that cargo has built into the same profile directory as this test.
#[must_use]
pub fn built_program(program: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test has a path");
    let path = own.ancestors().nth(2).expect("below the target directory").join(program);
    assert!(path.exists(), "{} is missing: run the tests with `make test`", path.display());
    path
}

impl World {
    /// An empty world with a kernel and a boot snapshot, so that every machine starts
    /// warm.
    #[must_use]
    pub fn new(user: User) -> Self {
        let world = Self::cold(user);
        prepared::link_boot_snapshot(&world.home(), &world.run_dir());
        world.chown(&world.home());
        world.chown(&world.run_dir());
        world
    }

    /// An empty world with a kernel, a boot snapshot, and one for machines that have one named volume.
    #[must_use]
    pub fn with_volumes(user: User) -> Self {
        let world = Self::new(user);
        prepared::link_volume_boot_snapshot(&world.home(), &world.run_dir());
        world.chown(&world.home());
        world.chown(&world.run_dir());
        world
    }

    /// An empty world with a kernel and no boot snapshot.
    #[must_use]
    pub fn cold(user: User) -> Self {
        let world = Self::bare(user);
        prepared::link_kernel(&world.home());
        prepared::copy_kvm_verdict(&world.run_dir());
        world.chown(&world.home());
        world.chown(&world.run_dir());
        world
    }

    /// root's empty world with a kernel and no boot snapshot, on a disk of `bytes` bytes.
    #[must_use]
    pub fn on_disk_of(bytes: u64) -> Self {
        use rustix::mount::{MountFlags, mount};
        let mut world = Self::bare(User::Root);
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no zero in it");
        mount("none", world.home(), "tmpfs", MountFlags::empty(), options.as_c_str()).expect("root mounts");
        world.mounted = true;
        prepared::link_kernel(&world.home());
        prepared::copy_kvm_verdict(&world.run_dir());
        world
    }

    /// An empty world without a kernel.
    #[must_use]
    pub fn bare(user: User) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "these tests must run as root; they switch to an ordinary user themselves");
        // A short path, because paths of sockets are limited in length.
        let dir = tempfile::Builder::new().prefix("mm").tempdir_in("/tmp").expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let world =
            Self { dir, user, mounted: false, variables: Vec::new(), postgres: std::sync::OnceLock::new() };
        for path in [world.home(), world.run_dir(), world.files()] {
            fs::create_dir_all(&path).expect("a directory");
            world.chown(&path);
        }
        world
    }

    /// Sets an environment variable for all programs of the world.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<std::ffi::OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Gives all programs of the world this clock.
    #[must_use]
    pub fn with_clock(self, clock: &crate::Clock) -> Self {
        clock.variables().into_iter().fold(self, |world, (name, value)| world.with_variable(name, value))
    }

    /// MIMEO_HOME.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// MIMEO_RUN.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A directory for the test's files; the working directory of its commands.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// The world's user.
    #[must_use]
    pub fn user(&self) -> User {
        self.user
    }

    /// Writes a file owned by the world's user.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.files().join(name);
        fs::create_dir_all(path.parent().expect("below files")).expect("a directory");
        fs::write(&path, content).expect("written");
        self.chown(&self.files());
        path
    }

    /// Writes an image as an OCI layout; returns its name for mimeo.
    #[must_use]
    pub fn image(&self, image: &Image) -> String {
        let dir = self.files().join(image.name());
        image.write_layout(&dir);
        self.chown(&self.files());
        format!("oci:{}:latest", dir.display())
    }

    /// Writes the busybox image; returns its name for mimeo.
    #[must_use]
    pub fn busybox(&self) -> String {
        self.image(&Image::busybox("busybox"))
    }

    /// Runs `mimeo` and waits for it.
    pub fn mimeo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.finish(self.command(args))
    }

    /// Runs `mimeo` with `input` on its standard input and waits for it.
    pub fn mimeo_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Outcome {
        let mut command = self.command(args);
        let line = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mimeo starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("mimeo ends");
        // The program may end before it has read all of its input.
        drop(writer.join());
        Outcome::new(line, output)
    }

    /// Starts `mimeo` without waiting for it.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mimeo starts")
    }

    /// Starts a detached machine; returns its id.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let all = ["run".into(), "-d".into()].into_iter();
        let args = all.chain(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.mimeo(args).ok().text().to_owned()
    }

    /// A `mimeo` command in this world, for the test to modify and run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(mimeo_program());
        command.args(args);
        command
    }

    /// Runs `mimeo` on a new terminal and waits for it.
    pub fn mimeo_on_terminal(&self, args: &[&str]) -> Outcome {
        let mut command = self.script(args);
        // At the end of its input `script` would send an end-of-file character to the terminal.
        let (input, write_end) = std::io::pipe().expect("a pipe");
        command.stdin(input);
        let outcome = self.finish(command);
        drop(write_end);
        outcome
    }

    /// A `mimeo` command on a new terminal, whose keyboard is the command's standard input.
    pub(crate) fn script(&self, args: &[&str]) -> Command {
        let quoted: Vec<_> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("stty rows 33 cols 99; {} {}", mimeo_program().display(), quoted.join(" "));
        let mut command = self.program("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command
    }

    /// Any program, run as this world's user with this world's environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.files())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.files())
            .env("MIMEO_HOME", self.home())
            .env("MIMEO_RUN", self.run_dir())
            .envs(prepared::firecracker().filter(|_| self.user == User::Root))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if self.user == User::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }

    /// Runs any command and waits for it.
    pub fn finish(&self, mut command: Command) -> Outcome {
        let line = format!("{command:?}");
        Outcome::new(line, command.output().expect("the command starts"))
    }

    /// Waits until all processes of this world have ended.
    pub fn wait_until_no_process(&self) {
        let home = self.dir.path().to_owned();
        until("all processes of the world have ended", || {
            leftovers::processes(&home).is_empty().then_some(())
        });
    }

    /// This world's running processes, with their arguments.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, String)> {
        leftovers::processes(self.dir.path())
    }

    /// Asserts that no process, no machine and no file of a machine is left.
    #[track_caller]
    pub fn assert_empty(&self) {
        self.wait_until_no_process();
        self.mimeo(["ps", "-a", "-q"]).ok().printed("");
        let left = leftovers::files(&self.home(), &self.run_dir());
        assert!(left.is_empty(), "files are left: {left:#?}");
    }

    /// Makes the world's user the owner of a path and everything below it.
    pub fn chown(&self, path: &Path) {
        if self.user == User::Root {
            return;
        }
        chown(path, Some(ORDINARY), Some(ORDINARY)).expect("root changes the owner");
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).expect("readable").flatten() {
                if !entry.path().is_symlink() {
                    self.chown(&entry.path());
                }
            }
        }
    }

    /// The processes that are still running after a grace period.
    fn surviving_processes(&self) -> Vec<(i32, String)> {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let left = leftovers::processes(self.dir.path());
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes remaining machines with `rm -fa` and kills and reports processes that survive that.
    fn clear(&self) {
        drop(self.mimeo(["rm", "-f", "-a"]));
        let left = self.surviving_processes();
        for (pid, _) in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                // Fails only if the process has ended meanwhile.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        let sockets: Vec<_> =
            fs::read_dir(self.run_dir().join("machines")).into_iter().flatten().flatten().collect();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "outlived its test: {left:#?}");
            assert!(sockets.is_empty(), "sockets are left: {sockets:#?}");
        }
    }
}

impl World {
    /// The address of a PostgreSQL server for its managers, if the test run puts their records there.
    pub(crate) fn postgres(&self) -> Option<String> {
        let is_requested = std::env::var_os("MIMEO_E2E_DATABASE").is_some_and(|value| value == "postgres");
        is_requested.then(|| self.postgres.get_or_init(crate::Postgres::start).url())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.clear();
        if self.mounted
            && let Err(error) = rustix::mount::unmount(self.home(), rustix::mount::UnmountFlags::DETACH)
        {
            eprintln!("cannot unmount {}: {error}", self.home().display());
        }
    }
}
