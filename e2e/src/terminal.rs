//! `mimeo` on a terminal that the test types into.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::{World, until};

/// A running `mimeo` and the terminal that it has.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts `mimeo` on a new terminal.
    #[must_use]
    pub fn start(world: &World, args: &[&str]) -> Self {
        let mut command = world.script(args);
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
        let keyboard = script.stdin.take().expect("piped");
        let mut output = script.stdout.take().expect("piped");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = screen.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shown.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        Self { script, keyboard, screen, reader }
    }

    /// Types keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// What the terminal has shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned()
    }

    /// Waits until the terminal has shown `text`.
    pub fn until_shows(&self, text: &str) {
        until(&format!("the terminal shows {text:?}"), || self.shown().contains(text).then_some(()));
    }

    /// Waits until `mimeo` has ended; returns its exit code and what the terminal has shown.
    #[must_use]
    pub fn finish(mut self) -> (i32, String) {
        let status = until("mimeo ends on its terminal", || self.script.try_wait().expect("waited"));
        // A reader that panicked has shown everything that it read.
        self.reader.join().ok();
        let screen = self.screen.lock().expect("no panic").clone();
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&screen).into_owned())
    }
}
