//! TLS.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Manager, User, World, until};
use rustix::process::{Pid, Signal, kill_process};

/// Makes a certificate for 127.0.0.1 that signs itself; returns its file and its key's.
fn certificate(world: &World, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (world.files().join("cert.pem"), world.files().join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    let output = openssl.output().expect("openssl is missing: apt-get install openssl (see `make deps`)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.chown(&world.files());
    (certificate, key)
}

/// Sends a request over TLS; returns what openssl prints and the answer.
fn get(manager: &Manager, authority: &Path, path: &str, more: &[&str]) -> String {
    let address = manager.url.strip_prefix("http://").expect("a URL");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "s_client",
        "-connect",
        address,
        "-verify_return_error",
        "-ign_eof",
        "-alpn",
        "h2,http/1.1",
    ]);
    openssl.arg("-CAfile").arg(authority).args(more);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = openssl.spawn().expect("openssl starts");
    let mut input = child.stdin.take().expect("piped");
    // The handshake may have failed already.
    write!(input, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").ok();
    let output = child.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn requests_are_answered_over_tls() {
    let world = World::bare(User::Ordinary);
    let (cert, key) = certificate(&world, "first");
    let old = std::fs::read(&cert).expect("read");
    let arguments = ["--tls-cert", cert.to_str().expect("text"), "--tls-key", key.to_str().expect("text")];
    let manager = Manager::start(&world, &arguments);
    for version in ["-tls1_2", "-tls1_3"] {
        let answer = get(&manager, &cert, "/health", &[version]);
        assert!(
            answer.contains("HTTP/1.1 200") && answer.contains("ALPN protocol: http/1.1"),
            "{version}: {answer}"
        );
    }
    let plain = std::net::TcpStream::connect(manager.url.strip_prefix("http://").expect("a URL"));
    let mut plain = plain.expect("connected");
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut plain, &mut answer).ok();
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"), "plain HTTP is not answered");
    // A new certificate is read on request; one that cannot be used is not.
    certificate(&world, "second");
    let pid = Pid::from_raw(i32::try_from(manager.pid()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::HUP).expect("signalled");
    until("the new certificate is used", || {
        get(&manager, &cert, "/health", &[]).contains("CN = second").then_some(())
    });
    std::fs::write(&cert, "rubbish").expect("written");
    kill_process(pid, Signal::HUP).expect("signalled");
    let first = world.file("old.pem", old);
    assert!(!get(&manager, &first, "/health", &[]).contains("HTTP/1.1 200"), "the old one is not trusted");
    manager.end();
}

#[test]
fn unusable_certificates_are_named() {
    let world = World::bare(User::Ordinary);
    let (cert, key) = certificate(&world, "first");
    let (cert, key) = (cert.to_str().expect("text"), key.to_str().expect("text"));
    let other = world.file("other.pem", std::fs::read(key).expect("read"));
    certificate(&world, "second");
    let rubbish = world.file("rubbish.pem", "rubbish");
    let (other, rubbish) = (other.to_str().expect("text"), rubbish.to_str().expect("text"));
    let refused = |cert: &str, key: &str, part: &str| {
        let arguments = ["manager", "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
        world.mimeo(arguments).code(125).stderr_contains(part);
    };
    refused("/missing.pem", key, "cannot read the certificate /missing.pem");
    refused(rubbish, key, "it has no certificate in PEM");
    refused(cert, rubbish, "cannot read the private key");
    refused(cert, other, "cannot use the certificate");
    world.mimeo(["manager", "--tls-cert", cert]).code(125).stderr_contains("--tls-key");
}

#[test]
fn other_hosts_are_not_answered_without_tls() {
    let world = World::bare(User::Ordinary);
    let refused = world.mimeo(["manager", "--listen", "0.0.0.0:0"]).code(125);
    refused.stderr_contains("without TLS").stderr_contains("--allow-plain-http");
}
