//! The fake of `firecracker`.

fn main() -> std::process::ExitCode {
    mimeo_fake_firecracker::run::main(std::env::args().skip(1))
}
