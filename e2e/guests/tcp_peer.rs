//! Three TCP services with one thread per connection. Port 7 sends one byte, port 9 reads to the end and then sends one
//! byte, port 19 reads a byte and sends that many MiB.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const CHUNK: usize = 1 << 16;

fn main() {
    let services: [(u16, fn(TcpStream)); 3] = [(7, greet), (9, receive), (19, send)];
    let threads = services.map(|(port, service)| std::thread::spawn(move || serve(port, service)));
    threads.into_iter().for_each(|thread| thread.join().expect("a service runs forever"));
}

fn serve(port: u16, service: fn(TcpStream)) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        std::thread::spawn(move || service(stream));
    }
}

fn greet(mut stream: TcpStream) {
    stream.write_all(b".").ok();
}

fn receive(mut stream: TcpStream) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(1..) = stream.read(&mut buffer) {}
    stream.write_all(b".").ok();
}

fn send(mut stream: TcpStream) {
    let mut mib = [0];
    let chunk = vec![0; CHUNK];
    if stream.read_exact(&mut mib).is_ok() {
        (0..usize::from(mib[0]) * ((1 << 20) / CHUNK)).all(|_| stream.write_all(&chunk).is_ok());
    }
}
