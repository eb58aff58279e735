//! Files of containers over HTTP.

use std::io::Write;
use std::net::TcpStream;

use e2e::{Answer, Client, Manager, User, World, as_root_and_user, until};
use serde_json::{Value, json};

fn machine(world: &World, client: &Client) {
    drop(client.create(&json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"] })));
}

fn put(client: &Client, query: &str, content: &[u8]) -> Answer {
    client.send("PUT", &format!("/v1/vms/m/files?{query}"), &[], content)
}

fn get(client: &Client, query: &str) -> Answer {
    client.get(&format!("/v1/vms/m/files?{query}"))
}

fn sh(client: &Client, script: &str) -> String {
    let result = client.sh("m", script);
    assert_eq!(result["exit_code"], 0, "{script}: {result}");
    result["stdout"].as_str().expect("text").to_owned()
}

as_root_and_user!(files_are_written_read_listed_and_removed, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    machine(world, &client);
    // More than any buffer on the way holds.
    let content: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let written =
        put(&client, "path=/data/a/b&parents=true&mode=0640&uid=1000&gid=7", &content).ok(200).json();
    let item = &written["item"];
    assert_eq!(
        (&item["name"], &item["type"], &item["size"], &item["mode"], &item["uid"], &item["gid"]),
        (&json!("b"), &json!("file"), &json!(5_000_000), &json!("0640"), &json!(1000), &json!(7))
    );
    let read = get(&client, "path=/data/a/b").ok(200);
    assert!(read.body == content, "the content differs");
    assert_eq!(read.header("content-length"), Some("5000000"));
    // A file that is replaced keeps its owner and its mode, also through a link; who has it open keeps the old one.
    drop(sh(&client, "ln -s a/b /data/link; exec 3</data/a/b; mkfifo /data/fifo"));
    let item = put(&client, "path=/data/link", b"short").ok(200).json()["item"].clone();
    assert_eq!((&item["mode"], &item["uid"], &item["size"]), (&json!("0640"), &json!(1000), &json!(5)));
    assert_eq!(
        sh(&client, "cat /data/a/b; ls /data/a | wc -l; stat -c %F /data/link"),
        "short1\nsymbolic link\n"
    );
    // The files that mimeo mounts are overwritten in place.
    put(&client, "path=/etc/hostname", b"renamed\n").ok(200);
    assert_eq!(sh(&client, "cat /etc/hostname"), "renamed\n");
    let made = json!({ "path": "/data/new/sub", "mode": "1777", "parents": true });
    let made = client.post("/v1/vms/m/files/mkdir", &made).ok(201).json()["item"].clone();
    assert_eq!((&made["type"], &made["mode"]), (&json!("directory"), &json!("1777")));
    let list = |query: &str| client.get(&format!("/v1/vms/m/files/list?path=/data{query}")).ok(200).json();
    let names = |list: &Value| {
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let all = list("");
    assert_eq!(
        (names(&all), &all["next_cursor"]),
        (vec!["a".into(), "fifo".into(), "link".into(), "new".into()], &Value::Null)
    );
    assert_eq!((&all["items"][2]["type"], &all["items"][2]["target"]), (&json!("symlink"), &json!("a/b")));
    let first = list("&limit=3");
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    assert_eq!(names(&list(&format!("&limit=3&cursor={cursor}"))), ["new"]);
    let stat = |query: &str| {
        client.get(&format!("/v1/vms/m/files/stat?path={query}")).ok(200).json()["item"].clone()
    };
    assert_eq!(
        (&stat("/data/link")["type"], &stat("/data/link&follow=true")["type"]),
        (&json!("symlink"), &json!("file"))
    );
    client.delete("/v1/vms/m/files?path=/data/link").ok(204);
    client.delete("/v1/vms/m/files?path=/data").problem(409, "directory-not-empty");
    client.delete("/v1/vms/m/files?path=/data&recursive=true").ok(204);
    client.get("/v1/vms/m/files/stat?path=/data").problem(404, "path-not-found");
});

as_root_and_user!(directories_are_packed_and_unpacked, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    machine(world, &client);
    drop(sh(
        &client,
        "mkdir -p /a/sub; echo text > /a/sub/file; chmod 604 /a/sub/file; ln -s sub/file /a/link",
    ));
    let archive = get(&client, "path=/a&format=tar").ok(200);
    assert_eq!(archive.header("content-type"), Some("application/x-tar"));
    let item =
        put(&client, "path=/b/c&format=tar&parents=true", &archive.body).ok(200).json()["item"].clone();
    assert_eq!(item["type"], "directory");
    assert_eq!(sh(&client, "cat /b/c/link; stat -c %a /b/c/sub/file"), "text\n604\n");
    let headers = [("accept", "application/x-tar")];
    let one = client.send("GET", "/v1/vms/m/files?path=/a/sub/file", &headers, b"").ok(200);
    let mut archive = tar::Archive::new(&one.body[..]);
    let names: Vec<_> = archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("one").path().expect("a path").into_owned())
        .collect();
    assert_eq!(names, [std::path::PathBuf::from("file")]);
    put(&client, "path=/b&format=tar", b"this is no archive, but longer than nothing")
        .problem(422, "invalid-request");
    put(&client, "path=/none&format=tar", &[0; 1024]).problem(404, "path-not-found");
    put(&client, "path=/a/link&format=tar", &[0; 1024]).problem(409, "not-a-directory");
    put(&client, "path=/b&format=tar&mode=0644", b"").problem(400, "invalid-request");
});

#[test]
fn paths_do_not_leave_the_container() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    machine(&world, &client);
    drop(sh(
        &client,
        "mkdir /d; ln -s /etc/passwd /d/absolute; ln -s ../../../../../etc/passwd /d/up; ln -s loop /d/loop; mkfifo /d/fifo",
    ));
    // Links lead to the container's own files, wherever they point.
    let passwd = sh(&client, "cat /etc/passwd");
    for link in ["absolute", "up"] {
        assert_eq!(get(&client, &format!("path=/d/{link}")).ok(200).body, passwd.as_bytes());
    }
    let long_name = format!("/{}", "a".repeat(256));
    let too_long = format!("/{}", "a/".repeat(2100));
    for (path, status, code) in [
        ("", 422, "invalid-path"),
        ("etc/passwd", 422, "invalid-path"),
        ("/../etc/passwd", 422, "invalid-path"),
        ("/d/..", 422, "invalid-path"),
        ("/d/%2e%2e/x", 422, "invalid-path"),
        ("/a%00b", 422, "invalid-path"),
        ("/%ff", 400, "invalid-request"),
        (&too_long, 422, "invalid-path"),
        (&long_name, 422, "invalid-request"),
        ("/d/loop", 422, "invalid-request"),
        ("/proc/1/environ", 403, "path-forbidden"),
        ("/proc/1/root/etc/passwd", 422, "invalid-request"),
        ("/proc/1/cwd/etc/passwd", 422, "invalid-request"),
        ("/sys/kernel/uevent_seqnum", 403, "path-forbidden"),
        ("/dev/zero", 403, "path-forbidden"),
        ("/d/fifo", 403, "path-forbidden"),
        ("/d", 409, "is-a-directory"),
        ("/etc/passwd/x", 409, "not-a-directory"),
        ("/none", 404, "path-not-found"),
    ] {
        get(&client, &format!("path={path}")).problem(status, code);
    }
    for (path, status, code) in [
        ("/", 409, "is-a-directory"),
        ("/../x", 422, "invalid-path"),
        ("/d/loop/x", 422, "invalid-request"),
        ("/proc/x", 403, "path-forbidden"),
        ("/proc/1/root/x", 422, "invalid-request"),
        ("/dev/null", 403, "path-forbidden"),
        ("/d", 409, "is-a-directory"),
        ("/none/x", 404, "path-not-found"),
        ("/etc/passwd/x", 409, "not-a-directory"),
    ] {
        put(&client, &format!("path={path}"), b"x").problem(status, code);
    }
    for (path, status, code) in [
        ("/", 403, "path-forbidden"),
        ("/proc", 403, "path-forbidden"),
        ("/proc/1", 403, "path-forbidden"),
        ("/etc/hosts", 409, "path-in-use"),
        ("/none", 404, "path-not-found"),
    ] {
        client.delete(&format!("/v1/vms/m/files?path={path}&recursive=true")).problem(status, code);
    }
    client.get("/v1/vms/m/files/list?path=/proc").problem(403, "path-forbidden");
    client.get("/v1/vms/m/files/list?path=/&cursor=xx").problem(422, "invalid-request");
    client.get("/v1/vms/m/files").problem(400, "invalid-request");
    get(&client, "path=/d&format=zip").problem(400, "invalid-request");
    for mode in ["x", "99", "17777"] {
        put(&client, &format!("path=/x&mode={mode}"), b"").problem(422, "invalid-field");
    }
    client.post("/v1/vms/m/files/mkdir", &json!({ "path": "/d" })).problem(409, "path-exists");
    client.post("/v1/vms/m/files/mkdir", &json!({ "path": "../d" })).problem(422, "invalid-path");
    client.post("/v1/vms/m/stop?wait=60", &json!({})).ok(200);
    get(&client, "path=/etc/passwd").problem(409, "machine-not-running");
}

#[test]
fn a_request_that_breaks_off_changes_nothing() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    machine(&world, &client);
    put(&client, "path=/d/file&parents=true", b"old").ok(200);
    let mut connection =
        TcpStream::connect(client.url().strip_prefix("http://").expect("HTTP")).expect("connected");
    write!(
        connection,
        "PUT /v1/vms/m/files?path=/d/file HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 1000\r\n\r\nnew",
        client.token()
    )
    .expect("sent");
    until("the file is being written", || (sh(&client, "ls -A /d | wc -l") == "2\n").then_some(()));
    assert_eq!(get(&client, "path=/d/file").ok(200).body, b"old");
    drop(connection);
    until("the unfinished file is removed", || (sh(&client, "ls -A /d") == "file\n").then_some(()));
    assert_eq!(get(&client, "path=/d/file").ok(200).body, b"old");
}
