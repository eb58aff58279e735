//! Handshakes that are invalid, or differ from Firecracker's.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mimeo_pager::fake::{Guest, send};
use serde_json::{Value, json};

/// Connects and sends the message of this name; returns the connection, if it stays open.
pub(crate) fn send_message(guest: &Guest, socket: &Path, name: &str) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).unwrap();
    let message = guest.message();
    let text = message.to_string();
    let own = guest.descriptor().unwrap();
    let file = File::open("/dev/null").unwrap();
    let send_text = |bytes: &str| send(&stream, bytes.as_bytes(), &[own]).unwrap();
    let send_changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = message.clone();
        change(&mut changed);
        send_text(&changed.to_string())
    };
    match name {
        "nothing" => 0,
        "bytes" => send_in_parts(&stream, &text, guest),
        "half" => send_text(&text[..text.len() / 2]),
        "words" => send_text("[{\"base_host_virt_addr\": \"here\"}]"),
        "object" => send_text("{}"),
        "more" => send_text(&(text + "[]")),
        "long" => {
            send_text("[");
            // The server may kill this process meanwhile.
            return (&stream).write_all(&[b' '; 1 << 20]).ok().map(|()| stream);
        }
        "bare" => send(&stream, text.as_bytes(), &[]).unwrap(),
        "two" => send(&stream, text.as_bytes(), &[own, own]).unwrap(),
        "many" => send(&stream, text.as_bytes(), &[own; 5]).unwrap(),
        "file" => send(&stream, text.as_bytes(), &[file.as_fd()]).unwrap(),
        "none" => send_text("[]"),
        "crowd" => send_text(&Value::from(vec![message[0].clone(); 1025]).to_string().replace(' ', "")),
        "empty" => send_changed(&|regions| regions[0]["size"] = json!(0)),
        "odd" => send_changed(&|regions| regions[0]["size"] = json!(4097)),
        "page" => send_changed(&|regions| regions[0]["page_size"] = json!(8192)),
        "beyond" => send_changed(&|regions| regions[1]["offset"] = json!(1_u64 << 40)),
        "addresses" => send_changed(&|regions| {
            regions[1]["base_host_virt_addr"] = regions[0]["base_host_virt_addr"].clone()
        }),
        "offsets" => send_changed(&|regions| regions[1]["offset"] = regions[0]["offset"].clone()),
        "old" => send_changed(&|regions| regions.as_array_mut().unwrap().iter_mut().for_each(no_page_size)),
        "new" => send_changed(&|regions| regions[0]["something"] = json!({"else": [1, "]"]})),
        other => panic!("unknown message {other}"),
    };
    (name != "half").then_some(stream)
}

/// As versions before 1.12 send it.
fn no_page_size(region: &mut Value) {
    region.as_object_mut().unwrap().remove("page_size");
}

/// In three parts, with the descriptor in the second.
fn send_in_parts(stream: &UnixStream, text: &str, guest: &Guest) -> usize {
    let (first, rest) = text.as_bytes().split_at(1);
    let (second, third) = rest.split_at(rest.len() / 2);
    send(stream, first, &[]).unwrap();
    send(stream, second, guest.descriptor().as_slice()).unwrap();
    send(stream, third, &[]).unwrap()
}
