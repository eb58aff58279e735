//! Handshakes that are invalid, or differ from Firecracker's.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mimeo_pager::fake::{Guest, send};
use serde_json::{Value, json};

/// Connects and sends the message of this name; returns the connection, if it stays open.
pub(crate) fn say(guest: &Guest, socket: &Path, what: &str) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).unwrap();
    let message = guest.message();
    let text = message.to_string();
    let own = guest.descriptor().unwrap();
    let file = File::open("/dev/null").unwrap();
    let say = |bytes: &str| send(&stream, bytes.as_bytes(), &[own]).unwrap();
    let also = |change: &dyn Fn(&mut Value)| {
        let mut changed = message.clone();
        change(&mut changed);
        say(&changed.to_string())
    };
    match what {
        "nothing" => 0,
        "bytes" => bytewise(&stream, &text, guest),
        "half" => say(&text[..text.len() / 2]),
        "words" => say("[{\"base_host_virt_addr\": \"here\"}]"),
        "object" => say("{}"),
        "more" => say(&(text + "[]")),
        "long" => {
            say("[");
            // The server may kill this process meanwhile.
            return (&stream).write_all(&[b' '; 1 << 20]).ok().map(|()| stream);
        }
        "bare" => send(&stream, text.as_bytes(), &[]).unwrap(),
        "two" => send(&stream, text.as_bytes(), &[own, own]).unwrap(),
        "many" => send(&stream, text.as_bytes(), &[own; 5]).unwrap(),
        "file" => send(&stream, text.as_bytes(), &[file.as_fd()]).unwrap(),
        "none" => say("[]"),
        "crowd" => say(&Value::from(vec![message[0].clone(); 1025]).to_string().replace(' ', "")),
        "empty" => also(&|told| told[0]["size"] = json!(0)),
        "odd" => also(&|told| told[0]["size"] = json!(4097)),
        "page" => also(&|told| told[0]["page_size"] = json!(8192)),
        "beyond" => also(&|told| told[1]["offset"] = json!(1_u64 << 40)),
        "addresses" => also(&|told| told[1]["base_host_virt_addr"] = told[0]["base_host_virt_addr"].clone()),
        "offsets" => also(&|told| told[1]["offset"] = told[0]["offset"].clone()),
        "old" => also(&|told| told.as_array_mut().unwrap().iter_mut().for_each(no_page_size)),
        "new" => also(&|told| told[0]["something"] = json!({"else": [1, "]"]})),
        other => panic!("unknown message {other}"),
    };
    (what != "half").then_some(stream)
}

/// As versions before 1.12 send it.
fn no_page_size(region: &mut Value) {
    region.as_object_mut().unwrap().remove("page_size");
}

/// In three parts, with the descriptor in the second.
fn bytewise(stream: &UnixStream, text: &str, guest: &Guest) -> usize {
    let (first, rest) = text.as_bytes().split_at(1);
    let (second, third) = rest.split_at(rest.len() / 2);
    send(stream, first, &[]).unwrap();
    send(stream, second, guest.descriptor().as_slice()).unwrap();
    send(stream, third, &[]).unwrap()
}
