//! A simulated host with a LAN neighbour, each in its own network namespace, so that
//! a test cannot change the network of the real host or of other tests.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// The network namespace of the current thread.
const CURRENT_NETNS: &str = "/proc/thread-self/ns/net";

/// A host and its neighbour, each a network namespace.
///
/// The thread that calls [`Lan::new`] moves to that host, and so does all that it starts.
#[derive(Debug)]
pub struct Lan {
    neighbour: OwnedFd,
    files: tempfile::TempDir,
}

impl Lan {
    /// The host's IPv4 address.
    pub const HOST: &str = "192.0.2.10";
    /// The host's IPv6 address.
    pub const HOST_6: &str = "fd00:2::10";
    /// The neighbour's IPv4 address, which is also the host's default gateway.
    pub const NEIGHBOUR: &str = "192.0.2.20";
    /// The neighbour's IPv6 address, which is also the host's default gateway.
    pub const NEIGHBOUR_6: &str = "fd00:2::20";

    /// Creates both, in a new mount namespace.
    #[must_use]
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root creates namespaces");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .expect("private mounts");
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).expect("a private /run");
        let neighbour = new_netns();
        let (pid, descriptor) = (std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&neighbour));
        fs::create_dir_all("/run/netns").expect("created");
        File::create("/run/netns/neighbour").expect("created");
        mount_bind(format!("/proc/{pid}/fd/{descriptor}"), "/run/netns/neighbour").expect("mounted");
        set_forwarding("1");
        ip("link set lo up");
        ip("link add up0 type veth peer name out0 netns neighbour");
        configure_nic("up0", Self::HOST, Self::HOST_6);
        ip(&format!("route add default via {}", Self::NEIGHBOUR));
        ip(&format!("route add default via {}", Self::NEIGHBOUR_6));
        let lan = Self { neighbour, files: tempfile::tempdir().expect("a directory") };
        lan.on_neighbour(|| {
            ip("link set lo up");
            configure_nic("out0", Self::NEIGHBOUR, Self::NEIGHBOUR_6);
        });
        lan
    }

    /// Runs a closure in the neighbour's network namespace.
    pub fn on_neighbour<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.neighbour.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters namespaces");
                body()
            });
            thread.join().expect("the closure succeeds")
        })
    }

    /// Disables IP forwarding on the host.
    pub fn disable_forwarding(&self) {
        set_forwarding("0");
    }

    /// Sets whether netfilter sees bridged frames (`1`) or not (`0`), where the kernel supports that.
    pub fn set_bridge_netfilter(&self, value: &str) {
        for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            let path = format!("/proc/sys/net/bridge/{setting}");
            if Path::new(&path).exists() {
                fs::write(path, value).expect("root sets it");
            }
        }
    }

    /// Mounts a file with `content` over the file at `path`.
    pub fn replace_file(&self, path: &str, content: &str) {
        let name = Path::new(path).file_name().expect("a file's path");
        let file = self.files.path().join(name);
        fs::write(&file, content).expect("written");
        mount_bind(&file, path).expect("root mounts");
    }

    /// Mounts an empty filesystem over a directory.
    pub fn hide_directory(&self, dir: &str) {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).expect("root mounts");
    }

    /// Asserts that mimeo has left no link, rule or namespace on the host.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert_eq!(self.links(), [""; 0], "links");
        let rules = Command::new("nft").args(["list", "ruleset"]).output().expect("nft starts").stdout;
        assert_eq!(String::from_utf8_lossy(&rules), "", "rules");
        let names = fs::read_dir("/run/netns").expect("names").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != "neighbour").collect();
        assert!(names.is_empty(), "namespaces: {names:?}");
    }

    /// mimeo's links on the host.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        mimeo_links(&fs::read_to_string("/proc/thread-self/net/dev").expect("links"))
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

fn mimeo_links(table: &str) -> Vec<String> {
    let names = table.lines().skip(2).filter_map(|line| line.split(':').next());
    let is_mimeos = |name: &&str| name.starts_with("mm-") || name.starts_with("mimeo");
    names.map(str::trim).filter(is_mimeos).map(str::to_owned).collect()
}

/// A new network namespace, kept alive by its descriptor.
fn new_netns() -> OwnedFd {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root creates namespaces");
        File::open(CURRENT_NETNS).expect("the thread's namespace").into()
    });
    thread.join().expect("created")
}

/// Sets IP forwarding; mimeo reports when it changes these settings.
fn set_forwarding(value: &str) {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{setting}"), value).expect("root sets it");
    }
}

fn configure_nic(nic: &str, ip4: &str, ip6: &str) {
    ip(&format!("address add {ip4}/24 dev {nic}"));
    ip(&format!("address add {ip6}/64 dev {nic} nodad"));
    ip(&format!("link set {nic} up"));
}

/// Runs iproute2's `ip` in the network namespace of the current thread.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip starts");
    assert!(status.success(), "ip {arguments}");
}
