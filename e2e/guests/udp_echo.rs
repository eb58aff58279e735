//! Echoes each datagram that arrives on port 7.

fn main() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:7").expect("port 7");
    let mut buffer = [0; 1500];
    loop {
        let (count, from) = socket.recv_from(&mut buffer).expect("a datagram");
        socket.send_to(&buffer[..count], from).expect("sent");
    }
}
