//! Firecracker's API for real guests that run under emulation.

use mimeo_fake_firecracker::settings::{Guest, Settings};

fn main() -> std::process::ExitCode {
    let settings = Settings { guest: Guest::Emulated, ..Settings::default() };
    mimeo_fake_firecracker::run::run_with_settings(std::env::args().skip(1), settings)
}
