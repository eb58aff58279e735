//! Processes over WebSockets, and commands of single requests.

use std::io::Write;
use std::net::TcpStream;

use e2e::{Client, Manager, Socket, User, World, as_root_and_user, until};
use serde_json::{Value, json};

/// A machine `m` that sleeps.
fn sleeper(world: &World, client: &Client) {
    drop(client.create(&json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"] })));
}

fn exec(client: &Client, request: &Value) -> Socket {
    let mut socket = Socket::open(client, "/v1/containers/m/exec");
    socket.json(request);
    socket
}

fn is_alive(client: &Client, pid: &Value) -> bool {
    client.sh("m", &format!("kill -0 {pid}"))["exit_code"] == 0
}

as_root_and_user!(a_process_has_its_streams_over_a_web_socket, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    sleeper(world, &client);
    let script = "read a; echo got $a; echo oops >&2; cat | wc -c; exit 7";
    let mut socket = exec(&client, &json!({ "command": ["sh", "-c", script], "interactive": true }));
    let started = socket.message();
    assert_eq!((&started["type"], &started["tty"]), (&json!("started"), &json!(false)));
    assert!(started["pid"].is_u64(), "{started}");
    socket.stdin(b"hello\n");
    socket.read_until("got hello\n");
    // More than any buffer on the way holds.
    for _ in 0..32 {
        socket.stdin(&[b'x'; 200_000]);
    }
    socket.stdin(b"");
    assert_eq!(socket.message(), json!({ "type": "exit", "code": 7 }));
    assert_eq!(socket.text_output(), ("got hello\n6400000\n".to_owned(), "oops\n".to_owned()));
    assert_eq!(socket.closed(), 1000);
    // Output that is read slowly is not lost, and reaches the client in order.
    let mut socket = exec(&client, &json!({ "command": ["sh", "-c", "seq 1 200000"] }));
    assert_eq!(socket.message()["type"], "started");
    assert_eq!(socket.message()["code"], 0);
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(socket.text_output().0 == expected, "the output differs");
});

#[test]
fn a_process_has_a_terminal_and_signals_over_a_web_socket() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    sleeper(&world, &client);
    let request = json!({ "command": ["sh"], "tty": true, "interactive": true, "rows": 33, "columns": 99 });
    let mut socket = exec(&client, &request);
    assert_eq!(socket.message()["tty"], true);
    socket.stdin(b"stty size\n");
    socket.read_until("33 99\r\n");
    socket.json(&json!({ "type": "resize", "rows": 44, "columns": 88 }));
    socket.stdin(b"stty size\n");
    socket.read_until("44 88\r\n");
    socket.stdin(b"exit 5\n");
    assert_eq!(socket.message(), json!({ "type": "exit", "code": 5 }));
    let mut socket = exec(&client, &json!({ "command": ["sleep", "1000"] }));
    assert_eq!(socket.message()["type"], "started");
    socket.json(&json!({ "type": "signal", "signal": 15 }));
    assert_eq!(socket.message(), json!({ "type": "exit", "code": 143 }));
    let mut socket = exec(&client, &json!({ "command": ["sleep", "1000"], "timeout_seconds": 1 }));
    assert_eq!(socket.message()["type"], "started");
    assert_eq!(socket.message(), json!({ "type": "exit", "code": 137, "timed_out": true }));
}

/// As with `mimeo exec`: a terminal hangs up, and a process without one continues.
#[test]
fn a_client_that_vanishes_hangs_up_its_terminal() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    sleeper(&world, &client);
    let start = |tty: bool| {
        let mut socket = exec(&client, &json!({ "command": ["sleep", "1000"], "tty": tty }));
        let pid = socket.message()["pid"].clone();
        drop(socket);
        pid
    };
    let (with_terminal, without) = (start(true), start(false));
    until("the terminal's process has ended", || (!is_alive(&client, &with_terminal)).then_some(()));
    assert!(is_alive(&client, &without));
}

#[test]
fn bad_requests_of_web_sockets_are_refused() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    sleeper(&world, &client);
    for path in ["/v1/containers/m/exec", "/v1/vms/m/attach"] {
        let refused = client.get(path);
        assert_eq!(refused.header("upgrade"), Some("websocket"));
        refused.problem(426, "upgrade-required");
        let denied = Socket::open_with(&client, path, &[]).expect_err("no token");
        assert!(denied.to_string().contains("401"), "{denied}");
        let token = |token: &str| format!("mimeo.v1, mimeo.token.{token}");
        let wrong = Socket::open_with(&client, path, &[("sec-websocket-protocol", &token("wrong"))]);
        assert!(wrong.expect_err("a wrong token").to_string().contains("401"));
        let right = Socket::open_with(&client, path, &[("sec-websocket-protocol", &token(client.token()))]);
        let (_, answer) = right.expect("a token in a subprotocol");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "mimeo.v1");
        for (first, code, status) in [
            ("x", "invalid-message", 400),
            (r#"{"x":1}"#, "invalid-message", 400),
            (r#"{"rows":1}"#, "invalid-field", 422),
        ] {
            let mut socket = Socket::open(&client, path);
            socket.text(first);
            let message = socket.message();
            assert_eq!(message["problem"]["code"], *code, "{path} {first} {message}");
            assert_eq!(socket.closed(), 4000 + status);
        }
    }
    for (request, code, status) in [
        (json!({ "command": [] }), "invalid-field", 422),
        (json!({ "command": ["none"] }), "command-not-found", 422),
        (json!({ "command": ["sh"], "user": "nobody-here" }), "unknown-user", 422),
        (json!({ "command": ["sh"], "stdin": "x" }), "invalid-field", 422),
    ] {
        let mut socket = exec(&client, &request);
        assert_eq!(socket.message()["problem"]["code"], *code, "{request}");
        assert_eq!(socket.closed(), 4000 + status);
    }
    for bad in [vec![], vec![1, 2], vec![0, 1]] {
        let mut socket = exec(&client, &json!({ "command": ["sleep", "1000"] }));
        assert_eq!(socket.message()["type"], "started");
        socket.binary(bad);
        assert_eq!(socket.message()["problem"]["code"], "invalid-message");
    }
    client.post("/v1/vms/m/pause?wait=60", &json!({})).ok(200);
    let refused = Socket::open_with(
        &client,
        "/v1/vms/m/exec",
        &[("authorization", &format!("Bearer {}", client.token()))],
    );
    assert!(refused.expect_err("paused").to_string().contains("409"));
    client.post("/v1/vms/m/exec", &json!({ "command": ["true"] })).problem(409, "machine-paused");
}

as_root_and_user!(clients_attach_to_the_containers_process, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let script = "while read a; do echo got $a; [ $a = end ] && exit 9; done";
    let request = json!({ "name": "m", "image": world.busybox(), "command": ["sh", "-c", script], "interactive": true });
    drop(client.create(&request));
    let attach = |request: &Value| {
        let mut socket = Socket::open(&client, "/v1/vms/m/attach");
        socket.json(request);
        assert_eq!(socket.message(), json!({ "type": "started", "pid": null, "tty": false }));
        socket
    };
    let (mut first, mut second) = (attach(&json!({ "stdin": true })), attach(&json!({})));
    first.stdin(b"hello\n");
    first.read_until("got hello\n");
    second.read_until("got hello\n");
    drop(second);
    first.stdin(b"end\n");
    assert_eq!(first.message(), json!({ "type": "exit", "code": 9 }));
    assert_eq!(first.closed(), 1000);
});

#[test]
fn a_command_ends_with_its_request() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    sleeper(&world, &client);
    let body = json!({ "command": ["sh", "-c", "echo $$ > /pid; exec sleep 1000"] }).to_string();
    let mut connection =
        TcpStream::connect(client.url().strip_prefix("http://").expect("HTTP")).expect("connected");
    write!(
        connection,
        "POST /v1/vms/m/exec HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        client.token(),
        body.len()
    )
    .expect("sent");
    // The shell makes the file before it writes the number.
    let pid = until("the command runs", || {
        client.sh("m", "cat /pid")["stdout"].as_str().expect("text").trim().parse::<u32>().ok()
    });
    assert!(is_alive(&client, &json!(pid)));
    drop(connection);
    until("the command is killed", || {
        (client.sh("m", &format!("kill -0 {pid}"))["exit_code"] != 0).then_some(())
    });
    let request = json!({ "command": ["sh", "-c", "cat; sleep 1000 & echo x >&2"], "stdin": "aGk=", "encoding": "base64", "timeout_seconds": 30 });
    let result = client.post("/v1/vms/m/exec", &request).ok(200).json()["item"].clone();
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("aGk="), &json!("eAo=")), "{result}");
    let timed_out = json!({ "command": ["sleep", "1000"], "timeout_seconds": 0.5 });
    let result = client.post("/v1/vms/m/exec", &timed_out).ok(200).json()["item"].clone();
    assert_eq!((&result["timed_out"], &result["exit_code"]), (&json!(true), &json!(137)), "{result}");
    let too_short = json!({ "command": ["true"], "timeout_seconds": 0.001 });
    client.post("/v1/vms/m/exec", &too_short).problem(504, "start-timeout");
    for bad in
        [json!({ "command": ["sh"], "tty": true }), json!({ "command": ["sh"], "rows": 1, "columns": 1 })]
    {
        client.post("/v1/vms/m/exec", &bad).problem(422, "invalid-field");
    }
}
