//! The fake of `jailer`.

fn main() -> std::process::ExitCode {
    mimeo_fake_firecracker::jailer::main(std::env::args().skip(1))
}
