//! One test's own mimeo.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Image, Outcome, leftovers, prepared, until};

/// An id that no account of a host has.
const ORDINARY: u32 = 48_151;

/// Whose mimeo it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// root's.
    Root,
    /// That of a user without any privilege.
    Ordinary,
}

/// One test's own home, run directory and user.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    user: User,
    /// Its home is a filesystem of its own.
    mounted: bool,
    /// More variables for its programs.
    variables: Vec<(String, std::ffi::OsString)>,
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("this test has a path");
    // target/<profile>/deps/<test>
    own.ancestors().nth(3).expect("below the target directory").to_owned()
}

/// The program under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("MIMEO_BIN").map_or_else(|| beside("mimeo"), PathBuf::from)
}

/// A program that cargo has built beside this test.
#[must_use]
pub fn beside(program: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test has a path");
    let path = own.ancestors().nth(2).expect("below the target directory").join(program);
    assert!(path.exists(), "{} is missing: run the tests with `make test`", path.display());
    path
}

impl World {
    /// An empty world with a kernel, and with a guest that has booted: its
    /// machines are warm from the first.
    #[must_use]
    pub fn new(user: User) -> Self {
        let world = Self::cold(user);
        prepared::guest(&world.home(), &world.run_dir());
        world.give(&world.home());
        world.give(&world.run_dir());
        world
    }

    /// An empty world with a kernel that has never booted.
    #[must_use]
    pub fn cold(user: User) -> Self {
        let world = Self::bare(user);
        prepared::kernel(&world.home());
        prepared::verdict(&world.run_dir());
        world.give(&world.home());
        world.give(&world.run_dir());
        world
    }

    /// root's empty world with a kernel that has never booted, on a disk of so many bytes.
    #[must_use]
    pub fn small(bytes: u64) -> Self {
        use rustix::mount::{MountFlags, mount};
        let mut world = Self::bare(User::Root);
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no zero in it");
        mount("none", world.home(), "tmpfs", MountFlags::empty(), options.as_c_str()).expect("root mounts");
        world.mounted = true;
        prepared::kernel(&world.home());
        prepared::verdict(&world.run_dir());
        world
    }

    /// An empty world without a kernel.
    #[must_use]
    pub fn bare(user: User) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "these tests run as root and become an ordinary user by themselves: run them as root");
        // A short path: sockets live below it.
        let dir = tempfile::Builder::new().prefix("mm").tempdir_in("/tmp").expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let world = Self { dir, user, mounted: false, variables: Vec::new() };
        for path in [world.home(), world.run_dir(), world.files()] {
            fs::create_dir_all(&path).expect("a directory");
            world.give(&path);
        }
        world
    }

    /// The same with a variable for all its programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<std::ffi::OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
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

    /// A directory for the test's own files, the current one of its commands.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// Whose world it is.
    #[must_use]
    pub fn user(&self) -> User {
        self.user
    }

    /// Writes a file that the world's user owns.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.files().join(name);
        fs::create_dir_all(path.parent().expect("below files")).expect("a directory");
        fs::write(&path, content).expect("written");
        self.give(&self.files());
        path
    }

    /// Writes an image as an OCI layout; its name for mimeo.
    #[must_use]
    pub fn image(&self, image: &Image) -> String {
        let dir = self.files().join(image.name());
        image.write_layout(&dir);
        self.give(&self.files());
        format!("oci:{}:latest", dir.display())
    }

    /// The busybox image; its name for mimeo.
    #[must_use]
    pub fn busybox(&self) -> String {
        self.image(&Image::busybox("busybox"))
    }

    /// Runs `mimeo` to its end.
    pub fn mimeo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.finish(self.command(args))
    }

    /// Runs `mimeo` to its end with `input` on its standard input.
    pub fn mimeo_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Outcome {
        let mut command = self.command(args);
        let told = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("ends");
        // A program may end before it has read all.
        drop(writer.join());
        Outcome::new(told, output)
    }

    /// Starts `mimeo` and leaves it to the test.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mimeo runs")
    }

    /// Starts a machine in the background; its id.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let all = ["run".into(), "-d".into()].into_iter();
        let args = all.chain(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.mimeo(args).ok().text().to_owned()
    }

    /// A `mimeo` command of this world, for the test to change and run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(binary());
        command.args(args);
        command
    }

    /// Runs `mimeo` to its end on a terminal of its own.
    pub fn mimeo_on_terminal(&self, args: &[&str]) -> Outcome {
        let quoted: Vec<_> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let mut command = self.program("script");
        let line = format!("stty rows 33 cols 99; {} {}", binary().display(), quoted.join(" "));
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        // At an end of its own input it would type one into the terminal.
        let (input, open) = std::io::pipe().expect("a pipe");
        command.stdin(input);
        let outcome = self.finish(command);
        drop(open);
        outcome
    }

    /// Any program as this world's user, with its environment.
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

    /// Runs any command of this world to its end.
    pub fn finish(&self, mut command: Command) -> Outcome {
        let told = format!("{command:?}");
        Outcome::new(told, command.output().expect("the command runs"))
    }

    /// Waits until no process of this world lives.
    pub fn until_quiet(&self) {
        let home = self.dir.path().to_owned();
        until("every process of this test's world has ended", || {
            leftovers::processes(&home).is_empty().then_some(())
        });
    }

    /// The processes of this world that live now, with their arguments.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, String)> {
        leftovers::processes(self.dir.path())
    }

    /// Nothing is left of what was asked for: no process, no machine, no file of one.
    #[track_caller]
    pub fn assert_empty(&self) {
        self.until_quiet();
        self.mimeo(["ps", "-a", "-q"]).ok().printed("");
        let left = leftovers::files(&self.home(), &self.run_dir());
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Gives a path and what is below it to the world's user.
    pub fn give(&self, path: &Path) {
        if self.user == User::Root {
            return;
        }
        chown(path, Some(ORDINARY), Some(ORDINARY)).expect("root gives it away");
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).expect("readable").flatten() {
                if !entry.path().is_symlink() {
                    self.give(&entry.path());
                }
            }
        }
    }

    /// What still lives when all that was ending has had its moment.
    fn settled(&self) -> Vec<(i32, String)> {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let left = leftovers::processes(self.dir.path());
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Machines that were left go by `rm -fa`; after that nothing may live.
    fn clear(&self) {
        drop(self.mimeo(["rm", "-f", "-a"]));
        let left = self.settled();
        for (pid, _) in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        let sockets: Vec<_> =
            fs::read_dir(self.run_dir().join("machines")).into_iter().flatten().flatten().collect();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "outlived its test: {left:#?}");
            assert!(sockets.is_empty(), "left in the run directory: {sockets:#?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.clear();
        if self.mounted {
            rustix::mount::unmount(self.home(), rustix::mount::UnmountFlags::DETACH).ok();
        }
    }
}
