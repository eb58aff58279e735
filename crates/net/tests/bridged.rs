//! Bridged networking on the real kernel. Each test creates its own network namespace.
//!
//! Without the privilege to create one, a test prints that it was not run: there is no other way to test this.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Barrier;
use std::thread;

use mimeo_net::PortMapping;
use mimeo_net::bridged::{self, Attachment, BridgedError, Fake, Faults, NetworkRequest, TapUse};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

const MACHINES: usize = 64;

fn request(id: &str) -> NetworkRequest {
    NetworkRequest { id: id.to_owned(), open: false, tap: TapUse::Descriptor, ip: None }
}

fn port(text: &str) -> PortMapping {
    PortMapping::parse(text).expect("a port")[0]
}

/// Gives this thread its own network and mount namespaces. False without the privilege.
fn enter_private_host() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: the bridge needs root, and this is an ordinary user");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("private mounts");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", "/run", "tmpfs", flags, None).expect("an empty /run");
    true
}

/// mimeo's links in this thread's namespace.
fn links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("links");
    let names = table.lines().skip(2).filter_map(|line| line.split(':').next());
    let ours = |name: &&str| name.starts_with("mm-") || name.starts_with("mimeo");
    names.map(str::trim).filter(ours).map(str::to_owned).collect()
}

fn rules() -> String {
    list_ruleset(&[])
}

fn assert_nothing_left() {
    assert_eq!(links(), [""; 0], "links");
    assert_eq!(rules(), "", "rules");
    let names = fs::read_dir("/run/netns").into_iter().flatten().count();
    assert_eq!(names, 0, "names of namespaces");
}

fn run_inside<T: Send>(attachment: &Attachment, body: impl FnOnce() -> T + Send) -> T {
    let namespace = attachment.namespace().expect("a namespace").descriptor();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("entered");
            body()
        });
        thread.join().expect("done")
    })
}

#[test]
fn namespaces_are_identical_inside_and_have_different_outer_addresses() {
    if !enter_private_host() {
        return;
    }
    let mut first = bridged::attach(&request("first")).expect("attached");
    let second = bridged::attach(&request("second")).expect("attached");
    assert_eq!(first.address().to_string(), "10.202.0.2");
    assert_eq!(second.address().to_string(), "10.202.0.3");
    let addresses = || fs::read_to_string("/proc/thread-self/net/fib_trie").expect("addresses");
    for attachment in [&first, &second] {
        let inside = run_inside(attachment, addresses);
        assert!(inside.contains("10.201.0.1") && inside.contains("10.201.0.5"), "{inside}");
        assert!(inside.contains(&attachment.address().to_string()), "{inside}");
    }
    first.publish(&[port("8080:80"), port("127.0.0.1:8081:81/udp")]).expect("published");
    let published = rules();
    assert!(published.contains("tcp . 8080 comment \"first\" : 10.202.0.2 . 80"), "{published}");
    assert!(published.contains("udp . 127.0.0.1 . 8081 comment \"first\" : 10.202.0.2 . 81"), "{published}");
    drop(first);
    assert!(!rules().contains("8080"));
    assert_eq!(links().len(), 2, "the bridge, and the second's link: {:?}", links());
    drop(second);
    assert_nothing_left();
}

#[test]
fn a_thousand_ports_are_published_and_removed() {
    if !enter_private_host() {
        return;
    }
    let stays = bridged::attach(&request("stays")).expect("attached");
    let mut many = bridged::attach(&request("many")).expect("attached");
    let ports = PortMapping::parse("20000-20999:30000-30999").expect("a range");
    many.publish(&ports).expect("published");
    assert_eq!(rules().matches("comment \"many\"").count(), 2 * ports.len());
    // Publishing a port of another machine fails and changes nothing.
    let mut other = bridged::attach(&request("other")).expect("attached");
    other.publish(&[port("9000:80"), port("20999:80")]).expect_err("the second port is in use");
    assert!(!rules().contains("9000"));
    drop(other);
    drop(many);
    assert!(!rules().contains("comment \"many\""));
    drop(stays);
    assert_nothing_left();
}

#[test]
fn an_existing_link_is_not_reused() {
    if !enter_private_host() {
        return;
    }
    let attachment = bridged::attach(&request("one")).expect("attached");
    let refused = bridged::attach(&request("one")).expect_err("it exists");
    assert!(matches!(&refused, BridgedError::Exists { name } if name == "mm-one"), "{refused:?}");
    assert!(if_nametoindex("mm-one").is_ok(), "the first is still there");
    drop(attachment);
    ip(&["link", "add", "mm-one", "type", "bridge"]);
    let refused = bridged::attach(&request("one")).expect_err("another program's link");
    assert!(refused.to_string().contains("mm-one exists already"), "{refused}");
    assert_eq!(links(), [""; 0], "the link had the name of a machine's link");
}

fn ip(arguments: &[&str]) {
    let status = std::process::Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}

#[test]
fn a_network_in_use_by_another_link_is_refused() {
    if !enter_private_host() {
        return;
    }
    ip(&["link", "add", "theirs", "type", "bridge"]);
    ip(&["address", "add", "10.202.7.1/24", "dev", "theirs"]);
    ip(&["link", "set", "theirs", "up"]);
    let refused = bridged::attach(&request("one")).expect_err("the network is in use").to_string();
    assert!(refused.contains("10.202.0.0/16") && refused.contains("theirs"), "{refused}");
    assert!(refused.contains("--network rootless"), "{refused}");
    assert_nothing_left();
}

#[test]
fn a_machine_whose_process_was_killed_is_swept() {
    if !enter_private_host() {
        return;
    }
    let mut attachment = bridged::attach(&request("killed")).expect("attached");
    attachment.publish(&[port("8080:80")]).expect("published");
    assert_eq!(bridged::sweep().expect("swept"), [""; 0], "the machine is attached");
    // The kernel does this when the last process that holds the namespace exits. No process has this id.
    ip(&["link", "del", "mm-killed"]);
    std::mem::forget(attachment);
    fs::remove_file("/run/netns/mimeo-killed").expect("removed");
    std::os::unix::fs::symlink("/proc/4194305/fd/9", "/run/netns/mimeo-killed").expect("a mark");
    assert_eq!(bridged::sweep().expect("swept"), ["killed"]);
    assert_nothing_left();
}

#[test]
fn flushed_rules_are_restored() {
    if !enter_private_host() {
        return;
    }
    let mut first = bridged::attach(&request("first")).expect("attached");
    first.publish(&[port("8080:80")]).expect("published");
    nft(&["flush", "ruleset"]);
    let second = bridged::attach(&request("second")).expect("attached");
    assert!(rules().contains("masquerade"));
    drop(first);
    drop(second);
    assert_nothing_left();
}

/// nft's listing of this thread's rules; with `-a` it includes their handles.
fn list_ruleset(arguments: &[&str]) -> String {
    let output = std::process::Command::new("nft").args(arguments).args(["list", "ruleset"]).output();
    String::from_utf8(output.expect("nft runs").stdout).expect("text")
}

#[test]
fn unchanged_rules_are_not_applied_again() {
    if !enter_private_host() {
        return;
    }
    let numbered = || list_ruleset(&["-a"]);
    let first = bridged::attach(&request("first")).expect("attached");
    let before = numbered();
    let mut second = bridged::attach(&request("second")).expect("attached");
    assert_eq!(numbered(), before);
    second.publish(&[port("8080:80")]).expect("published");
    drop(second);
    assert_eq!(numbered(), before);
    let second = bridged::attach(&request("second")).expect("attached");
    assert_eq!(numbered(), before);
    // A change by another program may have been to mimeo's table.
    nft(&["add", "table", "inet", "theirs"]);
    let third = bridged::attach(&request("third")).expect("attached");
    assert_ne!(numbered(), before);
    nft(&["delete", "table", "inet", "theirs"]);
    drop((first, second, third));
    assert_nothing_left();
}

#[test]
fn a_namespace_has_the_rules_of_inner_nft() {
    if !enter_private_host() {
        return;
    }
    let attachment = bridged::attach(&request("one")).expect("attached");
    let found = run_inside(&attachment, || list_ruleset(&[]));
    let expected = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("another namespace");
            nft(&["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inner.nft")]);
            list_ruleset(&[])
        });
        thread.join().expect("done")
    });
    assert!(expected.contains("masquerade"), "{expected}");
    assert_eq!(found, expected);
    drop(attachment);
    assert_nothing_left();
}

fn nft(arguments: &[&str]) {
    let status = std::process::Command::new("nft").args(arguments).status().expect("nft runs");
    assert!(status.success(), "nft {arguments:?}");
}

#[test]
fn a_host_without_nft_is_refused_and_left_unchanged() {
    if !enter_private_host() {
        return;
    }
    let refused = || {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", "/usr/sbin", "tmpfs", flags, None).expect("no programs");
        let refused = bridged::attach(&request("second")).expect_err("there is no nft");
        rustix::mount::unmount("/usr/sbin", rustix::mount::UnmountFlags::empty()).expect("programs again");
        assert!(matches!(refused, BridgedError::NoNft), "{refused}");
    };
    refused();
    assert_nothing_left();
    // The same when nft disappears while the bridge exists for another machine and the rules must be applied again.
    let first = bridged::attach(&request("first")).expect("attached");
    nft(&["flush", "ruleset"]);
    let before = links();
    refused();
    assert_eq!(links(), before);
    drop(first);
    assert_nothing_left();
}

#[test]
fn many_machines_attach_and_detach_twice() {
    if !enter_private_host() {
        return;
    }
    // Threads inherit the namespaces of the thread that starts them.
    for _ in 0..2 {
        let all_attached = Barrier::new(MACHINES);
        thread::scope(|scope| {
            for number in 0..MACHINES {
                let all_attached = &all_attached;
                scope.spawn(move || {
                    let mut attachment = bridged::attach(&request(&format!("m{number}"))).expect("attached");
                    let port = port(&format!("{}:80", 20_000 + number));
                    attachment.publish(&[port]).expect("published");
                    all_attached.wait();
                });
            }
        });
        assert_nothing_left();
    }
}

#[test]
fn the_dns_relay_listens_on_the_gateway_side() {
    if !enter_private_host() {
        return;
    }
    let attachment = bridged::attach(&request("asks")).expect("attached");
    let taken = run_inside(&attachment, || {
        (UdpSocket::bind("10.201.0.5:53").is_err(), TcpListener::bind("10.201.0.5:53").is_err())
    });
    assert_eq!(taken, (true, true), "the relay listens there");
}

#[test]
fn a_lack_of_privilege_is_reported_with_alternatives() {
    if !rustix::process::geteuid().is_root() {
        let refused = bridged::attach(&request("one")).expect_err("it needs root").to_string();
        assert!(refused.contains("CAP_NET_ADMIN") && refused.contains("--network rootless"), "{refused}");
        return;
    }
    let refused = thread::spawn(|| {
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )
        .expect("dropped");
        bridged::attach(&request("one")).expect_err("it needs privileges").to_string()
    });
    let refused = refused.join().expect("done");
    assert!(refused.contains("CAP_NET_ADMIN") && refused.contains("--network rootless"), "{refused}");
}

#[test]
fn machines_attach_and_detach_a_thousand_times_despite_faults() {
    let faults = Faults { prepare_after: Some(97), connect_after: Some(41), apply_after: Some(67) };
    let host = Fake::new(faults);
    let (mut refused, mut killed) = (0, 0);
    for round in 0..1000 {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let machines: Vec<_> = (0..MACHINES)
                .map(|number| {
                    scope.spawn({
                        let host = &host;
                        move || run_machine(host, round, number)
                    })
                })
                .collect();
            machines.into_iter().map(|machine| machine.join().expect("no panic")).collect()
        });
        refused += outcomes.iter().filter(|outcome| **outcome == Outcome::Refused).count();
        killed += outcomes.iter().filter(|outcome| **outcome == Outcome::Killed).count();
        let left = sweep_until_clean(&host);
        assert_eq!(left, [""; 0], "round {round}");
    }
    assert!(refused > 0 && killed > 0, "{refused} refused, {killed} killed");
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Killed,
    Left,
}

fn run_machine(host: &Fake, round: usize, number: usize) -> Outcome {
    let request = NetworkRequest { open: number.is_multiple_of(2), ..request(&format!("m{number}")) };
    let Ok(mut attachment) = host.attach(&request) else { return Outcome::Refused };
    // A machine whose port cannot be published runs without it.
    attachment.publish(&[port(&format!("{}:80", 20_000 + number))]).ok();
    if (round + number).is_multiple_of(7) {
        host.kill(attachment);
        return Outcome::Killed;
    }
    Outcome::Left
}

/// A fault may be injected into the sweep itself; the next command sweeps again.
fn sweep_until_clean(host: &Fake) -> Vec<String> {
    for _ in 0..8 {
        host.sweep().ok();
        if host.leftovers().is_empty() {
            break;
        }
    }
    host.leftovers()
}
