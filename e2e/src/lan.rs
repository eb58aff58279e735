//! A host of one test's own, with a neighbour: what is done to its network is done to nobody else's.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// The namespace of the thread that asks.
const OWN: &str = "/proc/thread-self/ns/net";

/// A host and its neighbour, each a network namespace.
///
/// The thread that makes it is on that host from then on, with all that it starts.
#[derive(Debug)]
pub struct Lan {
    neighbour: OwnedFd,
    files: tempfile::TempDir,
}

impl Lan {
    /// The host's address.
    pub const HOST: &str = "192.0.2.10";
    /// The same by IPv6.
    pub const HOST_6: &str = "fd00:2::10";
    /// The neighbour's address: also where the host sends all else.
    pub const NEIGHBOUR: &str = "192.0.2.20";
    /// The same by IPv6.
    pub const NEIGHBOUR_6: &str = "fd00:2::20";

    /// Makes both, with mounts of their own.
    #[must_use]
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root makes namespaces");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .expect("private mounts");
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).expect("a /run of its own");
        let neighbour = namespace();
        let (pid, descriptor) = (std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&neighbour));
        fs::create_dir_all("/run/netns").expect("made");
        File::create("/run/netns/neighbour").expect("made");
        mount_bind(format!("/proc/{pid}/fd/{descriptor}"), "/run/netns/neighbour").expect("named");
        settings("1");
        ip("link set lo up");
        ip("link add up0 type veth peer name out0 netns neighbour");
        furnish("up0", Self::HOST, Self::HOST_6);
        ip(&format!("route add default via {}", Self::NEIGHBOUR));
        ip(&format!("route add default via {}", Self::NEIGHBOUR_6));
        let lan = Self { neighbour, files: tempfile::tempdir().expect("a directory") };
        lan.outside(|| {
            ip("link set lo up");
            furnish("out0", Self::NEIGHBOUR, Self::NEIGHBOUR_6);
        });
        lan
    }

    /// Does something on the neighbour.
    pub fn outside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(self.neighbour.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters namespaces");
                body()
            });
            there.join().expect("done")
        })
    }

    /// Has the host pass no packets on.
    pub fn forward_nothing(&self) {
        settings("0");
    }

    /// Has the host's filter see bridged frames (`1`) or not (`0`), where its kernel can.
    pub fn filter_bridged(&self, seen: &str) {
        for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            let path = format!("/proc/sys/net/bridge/{setting}");
            if Path::new(&path).exists() {
                fs::write(path, seen).expect("root sets it");
            }
        }
    }

    /// Has the host's programs find `content` in the file at `path`.
    pub fn replace(&self, path: &str, content: &str) {
        let name = Path::new(path).file_name().expect("a file's path");
        let file = self.files.path().join(name);
        fs::write(&file, content).expect("written");
        mount_bind(&file, path).expect("root mounts");
    }

    /// Has the host's programs find nothing in a directory.
    pub fn hide(&self, dir: &str) {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).expect("root mounts");
    }

    /// Nothing of mimeo's is on the host: no link, no rule, no namespace.
    #[track_caller]
    pub fn assert_empty(&self) {
        let links = ours(&fs::read_to_string("/proc/thread-self/net/dev").expect("links"));
        assert_eq!(links, [""; 0], "links");
        let rules = Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs").stdout;
        assert_eq!(String::from_utf8_lossy(&rules), "", "rules");
        let names = fs::read_dir("/run/netns").expect("names").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != "neighbour").collect();
        assert!(names.is_empty(), "namespaces: {names:?}");
    }

    /// Links of mimeo's that are on the host.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        ours(&fs::read_to_string("/proc/thread-self/net/dev").expect("links"))
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

fn ours(table: &str) -> Vec<String> {
    let names = table.lines().skip(2).filter_map(|line| line.split(':').next());
    let ours = |name: &&str| name.starts_with("mm-") || name.starts_with("mimeo");
    names.map(str::trim).filter(ours).map(str::to_owned).collect()
}

/// A new network namespace, held by its descriptor.
fn namespace() -> OwnedFd {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root makes namespaces");
        File::open(OWN).expect("its own").into()
    });
    made.join().expect("made")
}

/// Whether the host passes packets on; mimeo tells what it changes of that.
fn settings(value: &str) {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{setting}"), value).expect("root sets it");
    }
}

fn furnish(card: &str, ip4: &str, ip6: &str) {
    ip(&format!("address add {ip4}/24 dev {card}"));
    ip(&format!("address add {ip6}/64 dev {card} nodad"));
    ip(&format!("link set {card} up"));
}

/// `ip` of iproute2, on the host of this thread.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}
