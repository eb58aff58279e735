//! Bridged networking, which needs root. Each test runs on a simulated host with a neighbour.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use e2e::{Lan, Outcome, User, World, signal, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SERVE: &str = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

fn get(address: &str) -> Option<()> {
    let mut stream =
        TcpStream::connect_timeout(&address.parse().expect("an address"), RESPONSE_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("page").then_some(())
}

/// Starts a machine that serves a page, with additional arguments.
fn serve(world: &World, image: &str, arguments: &[&str]) -> String {
    let fixed = ["--network", "bridged"].iter().chain(arguments).copied();
    world.start(fixed.chain([image, "sh", "-c", SERVE]))
}

fn network(world: &World, name: &str, field: &str) -> String {
    let document: Value = serde_json::from_str(world.mimeo(["inspect", name]).ok().text()).expect("JSON");
    document[0]["NetworkSettings"][field].as_str().expect(field).to_owned()
}

fn shell(world: &World, name: &str, script: &str) -> Outcome {
    world.mimeo(["exec", name, "sh", "-c", script])
}

#[test]
fn published_ports_are_reachable_from_host_and_lan() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    serve(&world, &image, &["--name", "web", "-p", "8080:8000", "-p", "127.0.0.1:8081:8000"]);
    until("the page is served on the host", || get("127.0.0.1:8080"));
    let (ip, ip6) = (network(&world, "web", "IPAddress"), network(&world, "web", "GlobalIPv6Address"));
    let (host, host_6) = (Lan::HOST, Lan::HOST_6);
    for address in [
        "127.0.0.1:8081".to_owned(),
        format!("{host}:8080"),
        format!("[{host_6}]:8080"),
        // The machine's own addresses, which only the host can reach.
        format!("{ip}:8000"),
        format!("[{ip6}]:8000"),
    ] {
        get(&address).unwrap_or_else(|| panic!("{address} from the host"));
    }
    lan.on_neighbour(|| {
        get(&format!("{host}:8080")).expect("the neighbour gets the page");
        get(&format!("[{host_6}]:8080")).expect("the neighbour gets the page over IPv6");
        assert_eq!(get(&format!("{host}:8081")), None, "it is published on the loopback address only");
    });
    let outcome = world.mimeo(["run", "--rm", "--network", "bridged", "-p", "8080:80", &image, "true"]);
    outcome.code(125).stderr_contains("cannot publish 0.0.0.0:8080/tcp: it is in use");
    world.mimeo(["rm", "-f", "web"]).ok();
    assert_eq!(get("127.0.0.1:8080"), None);
    lan.assert_empty();
}

#[test]
fn outgoing_connections_are_masqueraded() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    lan.disable_forwarding();
    let peers = lan.on_neighbour(|| {
        let listener = TcpListener::bind("[::]:7000").expect("a socket");
        std::thread::spawn(move || {
            let accepted = listener.incoming().take(2);
            accepted
                .map(|stream| {
                    let mut stream = stream.expect("a connection");
                    stream.write_all(b"from outside\n").expect("written");
                    stream.peer_addr().expect("its address").ip().to_canonical().to_string()
                })
                .collect::<Vec<_>>()
        })
    });
    let script = format!("nc {} 7000; nc {} 7000", Lan::NEIGHBOUR, Lan::NEIGHBOUR_6);
    let outcome = world.mimeo(["run", "--rm", "--network", "bridged", &image, "sh", "-c", &script]).code(0);
    assert_eq!(outcome.stdout, "from outside\nfrom outside\n");
    // Connections are masqueraded: the machine's addresses are unknown outside the host.
    assert_eq!(peers.join().expect("both connections arrive"), [Lan::HOST, Lan::HOST_6]);
    outcome
        .stderr_contains("net.ipv4.ip_forward of this host to 1 (it is 0)")
        .stderr_contains("net.ipv6.conf.all.forwarding of this host to 1 (it is 0)");
    lan.assert_empty();
}

#[test]
fn machines_reach_each_other_only_with_vm_to_vm() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    serve(&world, &image, &["--name", "isolated", "-p", "8080:8000"]);
    serve(&world, &image, &["--name", "one", "--vm-to-vm"]);
    serve(&world, &image, &["--name", "two", "--vm-to-vm"]);
    let address = |name: &str| network(&world, name, "IPAddress");
    let fetch = |from: &str, ip: &str, port: u16| {
        shell(&world, from, &format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {ip} {port} | tail -n 1"))
    };
    for name in ["isolated", "one", "two"] {
        until("the page is served on the host", || get(&format!("{}:8000", address(name))));
    }
    fetch("one", &address("two"), 8000).ok().printed("page\n");
    fetch("two", &network(&world, "one", "GlobalIPv6Address"), 8000).ok().printed("page\n");
    for (from, to) in [("one", "isolated"), ("isolated", "one")] {
        let outcome = fetch(from, &address(to), 8000);
        assert_eq!(outcome.stdout, "", "{from} reached {to}: {outcome:#?}");
    }
    // Machines reach published ports too, including their own, whether netfilter sees bridged frames or not.
    for seen in ["0", "1"] {
        lan.set_bridge_netfilter(seen);
        for from in ["one", "isolated"] {
            fetch(from, Lan::HOST, 8080).ok().printed("page\n");
        }
    }
    let outcome = fetch("one", &address("isolated"), 8000);
    assert_eq!(outcome.stdout, "", "one reached isolated: {outcome:#?}");
    world.mimeo(["rm", "-f", "-a"]).ok();
    lan.assert_empty();
}

#[test]
fn clones_share_the_inner_address_not_the_outer() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    serve(&world, &image, &["--name", "web", "-p", "8080:8000"]);
    until("the page is served", || get("127.0.0.1:8080"));
    world.mimeo(["snapshot", "create", "web", "--tag", "warm"]).ok();
    let mut outer = vec![network(&world, "web", "IPAddress")];
    for name in ["a", "b", "c"] {
        world.mimeo(["snapshot", "run", "warm", "--name", name]).ok();
        let inner = shell(&world, name, "ip -4 addr show eth0 | grep -o 'inet [0-9./]*'").ok();
        assert_eq!(inner.stdout, "inet 10.201.0.2/30\n");
        let published = world.mimeo(["port", name, "8000"]).ok();
        let port = published.text().rsplit(':').next().expect("a port");
        get(&format!("127.0.0.1:{port}")).expect("the clone's page");
        outer.push(network(&world, name, "IPAddress"));
    }
    for ip in &outer {
        get(&format!("{ip}:8000")).unwrap_or_else(|| panic!("the page of {ip}"));
    }
    let count = outer.len();
    outer.sort_unstable();
    outer.dedup();
    assert_eq!(outer.len(), count, "two machines share an address: {outer:?}");
    world.mimeo(["fork", "a", "--count", "3"]).ok();
    // The bridge's MAC address is fixed while machines come and go.
    let bridge = Command::new("ip").args(["link", "show", "mimeo0"]).output().expect("ip runs");
    let bridge = String::from_utf8_lossy(&bridge.stdout).into_owned();
    assert!(bridge.contains("link/ether 02:6d:69:6d:65:6f"), "{bridge}");
    assert_eq!(lan.links().len(), count + 3 + 1, "one link per machine, and the bridge");
    world.mimeo(["rm", "-f", "-a"]).ok();
    lan.assert_empty();
}

#[test]
fn a_killed_supervisor_leaves_nothing_on_the_bridge() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    serve(&world, &image, &["--name", "web", "-p", "8080:8000"]);
    let other = serve(&world, &image, &["--name", "other", "-p", "8081:8000"]);
    let document: Value = serde_json::from_str(world.mimeo(["inspect", "web"]).ok().text()).expect("JSON");
    let pid = document[0]["State"]["Pid"].as_i64().expect("a pid");
    kill_process(Pid::from_raw(pid as i32).expect("a pid"), Signal::KILL).expect("the supervisor runs");
    until("the link is gone", || (lan.links().len() == 2).then_some(()));
    world.mimeo(["ps"]).code(0).stderr_contains("web: the supervisor died: removed what it left behind");
    assert_eq!(
        lan.links(),
        ["mimeo0".to_owned(), format!("mm-{}", &other[..12])],
        "the other machine's link remains"
    );
    until("the other machine's page is served", || get("127.0.0.1:8081"));
    assert_eq!(get("127.0.0.1:8080"), None);
    world.mimeo(["rm", "-f", "-a"]).ok();
    lan.assert_empty();
}

#[test]
fn an_aborted_start_leaves_nothing_on_the_bridge() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    let mut child = world.spawn([
        "run",
        "--rm",
        "--cold",
        "--network",
        "bridged",
        "-p",
        "8080:8000",
        &image,
        "sh",
        "-c",
        SERVE,
    ]);
    until("the machine is on the bridge", || (lan.links().len() == 2).then_some(()));
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("mimeo ends").code(), Some(130));
    lan.assert_empty();
    world.mimeo(["run", "--rm", "--network", "bridged", &image, "/none"]).code(127);
    lan.assert_empty();
}

#[test]
fn dns_reaches_a_server_on_the_hosts_loopback() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    lan.replace_file("/etc/resolv.conf", "nameserver 127.0.0.7\n");
    let server = UdpSocket::bind("127.0.0.7:53").expect("a socket");
    std::thread::spawn(move || answer_names(&server));
    let outcome =
        world.mimeo(["run", "--rm", "--network", "bridged", &image, "nslookup", "-type=a", "db.example"]);
    assert!(outcome.stdout.contains("192.0.2.77"), "{outcome:#?}");
    lan.assert_empty();
}

/// Answers every query with 192.0.2.77.
fn answer_names(server: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = server.recv_from(&mut buffer) {
        let mut answer = buffer[..length].to_vec();
        // A successful response with one answer: an A record for the queried name, with a TTL of 60 s.
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 1]);
        answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
        server.send_to(&answer, from).expect("sent");
    }
}

#[test]
fn missing_prerequisites_are_named() {
    let user = World::new(User::Ordinary);
    let image = user.busybox();
    let outcome = user.mimeo(["run", "--rm", "--network", "bridged", &image, "true"]).code(125);
    outcome.stderr_contains("CAP_NET_ADMIN").stderr_contains("--network rootless");
    user.assert_empty();
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    lan.hide_directory("/usr/sbin");
    let outcome = world.mimeo(["run", "--rm", "--network", "bridged", &image, "true"]).code(125);
    outcome.stderr_contains("nft").stderr_contains("apt-get install nftables");
    assert_eq!(lan.links(), [""; 0]);
}

#[test]
fn a_machine_has_the_requested_address_and_reaches_its_host() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let lan = Lan::new();
    serve(&world, &image, &["--name", "web", "--ip", "10.202.7.9", "--mac-address", "92:d0:c6:0a:29:33"]);
    assert_eq!(network(&world, "web", "IPAddress"), "10.202.7.9");
    assert_eq!(network(&world, "web", "MacAddress"), "92:d0:c6:0a:29:33");
    until("the page is served", || get("10.202.7.9:8000"));
    let taken = ["run", "--rm", "--network", "bridged", "--ip", "10.202.7.9", &image, "true"];
    world.mimeo(taken).code(125).stderr_contains("10.202.7.9 is in use by another machine");
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"hello\n").expect("written");
    });
    shell(&world, "web", &format!("nc host.containers.internal {port} </dev/null")).ok().printed("hello\n");
    server.join().expect("served");
    world.mimeo(["rm", "-f", "web"]).ok();
    lan.assert_empty();
}
