//! User-mode networking: published ports, addresses, names.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use e2e::{Image, Layer, User, World, as_root_and_user, guest_program, until};

const SERVE: &str = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";

fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("page").then_some(answer)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

as_root_and_user!(a_published_port_is_reachable, |world| {
    let image = world.busybox();
    let port = free_port();
    world.start(["--name", "web", "-p", &format!("127.0.0.1:{port}:8000"), &image, "sh", "-c", SERVE]);
    until("the page is served", || get(&format!("127.0.0.1:{port}")));
    world.mimeo(["port", "web"]).ok().printed(&format!("8000/tcp -> 127.0.0.1:{port}\n"));
    // The port is published on one address only.
    let others = TcpListener::bind(format!("127.0.0.2:{port}"));
    assert!(others.is_ok(), "127.0.0.2 is taken too: {others:?}");
});

#[test]
fn a_free_host_port_is_chosen() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-p", "127.0.0.1::8000", &image, "sh", "-c", SERVE]);
    let published = world.mimeo(["port", "web", "8000"]).ok();
    until("the page is served", || get(published.text()));
}

#[test]
fn udp_ports_are_published() {
    let world = World::new(User::Root);
    let echo = Layer::default().file("udp_echo", 0o755, guest_program("udp_echo"));
    let image = world.image(&Image::new("echo", vec![echo]));
    let port = free_port();
    world.start(["-p", &format!("127.0.0.1:{port}:7/udp"), &image, "/udp_echo"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    socket.connect(("127.0.0.1", port)).expect("connected");
    until("the echo arrives", || {
        socket.send(b"echo").ok()?;
        let mut buffer = [0; 16];
        let count = socket.recv(&mut buffer).ok()?;
        (&buffer[..count] == b"echo").then_some(())
    });
}

#[test]
fn each_machine_has_its_own_network() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            stream.and_then(|mut stream| stream.write_all(b"from the host\n")).expect("written");
        }
    });
    // User-mode networking maps the gateway's address to the host's loopback.
    let shell = format!("ip -4 addr show eth0 | grep -o 'inet [0-9./]*'; nc 10.201.0.1 {port}");
    let outcome = world.mimeo(["run", "--rm", &image, "sh", "-c", &shell]).ok();
    assert_eq!(outcome.stdout, "inet 10.201.0.2/30\nfrom the host\n");
    world.mimeo(["run", "--rm", "--network", "none", &image, "ls", "/sys/class/net"]).ok().printed("lo\n");
}

#[test]
fn a_port_in_use_is_refused_before_the_start() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = taken.local_addr().expect("an address").port();
    world
        .mimeo(["run", "--rm", "-p", &format!("127.0.0.1:{port}:80"), &image, "true"])
        .code(125)
        .stderr_contains(&format!("cannot publish 127.0.0.1:{port}/tcp: it is in use"));
    world
        .mimeo(["run", "--rm", "-p", "192.0.2.1:8080:80", &image, "true"])
        .code(125)
        .stderr_contains("192.0.2.1 is not an address of this host");
    world.mimeo(["ps", "-aq"]).ok().printed("");
}

#[test]
fn names_are_resolved_through_the_gateway() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let outcome = world
        .mimeo([
            "run",
            "--rm",
            "--add-host",
            "db:192.0.2.7",
            "--hostname",
            "box",
            &image,
            "cat",
            "/etc/resolv.conf",
            "/etc/hosts",
        ])
        .ok();
    assert!(outcome.stdout.contains("nameserver 10.201.0.5"), "{outcome:#?}");
    assert!(outcome.stdout.contains("192.0.2.7\tdb"), "{outcome:#?}");
    assert!(outcome.stdout.contains("10.201.0.2\tbox"), "{outcome:#?}");
    let own = world.mimeo(["run", "--rm", "--dns", "192.0.2.53", &image, "cat", "/etc/resolv.conf"]).ok();
    assert_eq!(own.stdout, "nameserver 192.0.2.53\n");
}
