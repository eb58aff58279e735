//! A process that plays Firecracker's part: this program again, with commands on its standard input.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Barrier;
use std::thread;

use mimeo_pager::PAGE;
use mimeo_pager::fake::{self, Guest};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{messages, work};

const VARIABLE: &str = "MIMEO_PAGER_TEST_VMM";
const TEST: &str = "vmm::runs_commands";

/// The process and its pipes.
pub(crate) struct Vmm {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Vmm {
    /// A process with memory regions of these sizes in pages, not served yet.
    pub(crate) fn start(regions: &[u64]) -> Self {
        Self::with_features(regions, PAGE, fake::FEATURES)
    }

    pub(crate) fn with_features(regions: &[u64], page: u64, features: u64) -> Self {
        Self::try_with_features(regions, page, features)
            .expect("a userfaultfd needs root, or a user that no seccomp filter restricts")
    }

    /// None if the kernel lacks such memory, or this user may not create the userfaultfd.
    pub(crate) fn try_with_features(regions: &[u64], page: u64, features: u64) -> Option<Self> {
        let mut words = vec![page.to_string(), features.to_string()];
        words.extend(regions.iter().map(u64::to_string));
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--ignored", "--nocapture"])
            .env(VARIABLE, words.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut vmm = Self { process, input, output };
        (vmm.next_reply()? == "ready").then_some(vmm)
    }

    /// A process that is served by the server at `socket`.
    pub(crate) fn start_served(regions: &[u64], socket: &Path) -> Self {
        let mut vmm = Self::start(regions);
        vmm.hand_over(socket);
        vmm
    }

    pub(crate) fn hand_over(&mut self, socket: &Path) {
        self.run(&format!("hand {}", socket.display()));
    }

    /// Reads all pages with some threads, in the order `forwards`, `backwards`, `shuffled` or `together`
    /// (each page by all threads at once). Returns the content.
    pub(crate) fn read_all(&mut self, pages: u64, order: &str, threads: u64) -> Vec<u8> {
        self.read_from(0, pages, order, threads)
    }

    /// As `read_all`, starting at a page.
    pub(crate) fn read_from(&mut self, first: u64, pages: u64, order: &str, threads: u64) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.run(&format!("dump {} {pages} {order} {threads} {first}", file.path().display()));
        std::fs::read(file.path()).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command without waiting.
    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Sends a command and waits until it is done.
    pub(crate) fn run(&mut self, command: &str) {
        self.send(command);
        assert_eq!(self.next_reply().as_deref(), Some("done"), "{command}");
    }

    /// Its next reply; none when it has exited. The test harness's own output is skipped.
    pub(crate) fn next_reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, reply)) = line.trim().split_once("vmm: ") {
                return Some(reply.to_owned());
            }
        }
    }

    /// Waits until it has exited.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // No more output: the wait below is only for the kernel.
        assert_eq!(self.next_reply(), None);
        self.process.wait().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
#[ignore = "the child process of other tests"]
fn runs_commands() {
    let Ok(words) = std::env::var(VARIABLE) else { return };
    // Unserved, it would wait for ever.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let numbers: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
    let sizes: Vec<_> = numbers[2..].iter().map(|pages| pages * PAGE).collect();
    let mut guest = match Guest::new(&sizes, numbers[0], numbers[1]) {
        Ok(guest) => guest,
        Err(error) => return reply(&error.to_string()),
    };
    let mut streams = Vec::new();
    reply("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        run_command(&words, &mut guest, &mut streams);
        reply("done");
    }
}

fn reply(word: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "vmm: {word}").unwrap();
    output.flush().unwrap();
}

fn run_command(words: &[&str], guest: &mut Guest, streams: &mut Vec<UnixStream>) {
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    match words[0] {
        "hand" => streams.push(guest.hand_over(Path::new(words[1])).unwrap()),
        "late" => assert!(guest.hand_over(Path::new(words[1])).is_err()),
        "dump" => {
            let pages = read_all(guest, number(2), words[3], (number(4), number(5)));
            std::fs::write(words[1], pages.concat()).unwrap();
        }
        "touch" => (number(1)..number(2)).map(|page| guest.touch(page)).for_each(|word| {
            std::hint::black_box(word);
        }),
        "say" => streams.extend(messages::send_message(guest, Path::new(words[1]), words[2])),
        "hush" => streams.clear(),
        "work" => work::run(guest, &std::fs::read(words[1]).unwrap(), number(2)),
        "write" => (number(1)..number(2)).for_each(|page| guest.write(page, number(3) as u8)),
        "remove" => guest.remove(number(1)..number(2)).unwrap(),
        "shift" => guest.shift(number(1)).unwrap(),
        "unmap" => guest.unmap(number(1)),
        other => panic!("unknown command {other}"),
    }
}

fn read_all(guest: &Guest, pages: u64, order: &str, (threads, first): (u64, u64)) -> Vec<Vec<u8>> {
    let page = |step: u64| match order {
        "forwards" | "together" => step,
        "backwards" => pages - 1 - step,
        // Visits every page once: the prime divides no test's page count.
        "shuffled" => step * 7919 % pages,
        other => panic!("unknown order {other}"),
    };
    let barrier = Barrier::new(threads as usize);
    let read = |number: u64| {
        let mut found = Vec::new();
        for step in 0..pages {
            if order == "together" {
                barrier.wait();
            } else if step % threads != number {
                continue;
            }
            found.push((page(step), guest.read(first + page(step))));
        }
        found
    };
    let mut all = vec![Vec::new(); pages as usize];
    thread::scope(|scope| {
        let others: Vec<_> = (0..threads).map(|number| scope.spawn(move || read(number))).collect();
        for (page, bytes) in others.into_iter().flat_map(|other| other.join().unwrap()) {
            assert!(all[page as usize].is_empty() || all[page as usize] == bytes, "page {page} changes");
            all[page as usize] = bytes;
        }
    });
    all
}
