//! What `make demo` shows: a real nginx, made from Debian's packages, in a
//! microVM of its own, and ten running copies of it.

mod fork;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::narrate::{program, quiet, show, step};

const IMAGE: &str = "localhost/nginx:demo";
const NAME: &str = "mimeo-demo";
const RELEASE: &str = "bookworm";
/// What mmdebstrap does last, in its own words: nginx's logs are the container's output.
const LOGS: &str =
    r#"ln -sf /dev/stdout "$1/var/log/nginx/access.log" && ln -sf /dev/stderr "$1/var/log/nginx/error.log""#;
/// Emulated, on a busy machine, nginx takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the whole demo.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    step(
        "Set this host up: a kernel from Debian's package, the first filesystem, and what it can do",
        || show(&["setup"]),
    )?;
    step("Make an nginx image from Debian's packages", make_image)?;
    // One that an interrupted demo left.
    quiet(&["rm", "--force", NAME])?;
    fork::clear_away()?;
    step("Run it in a microVM, with a port of the machine published on the host", || {
        show(&["run", "-d", "--name", NAME, "-p", "127.0.0.1::80", IMAGE])
    })?;
    let shown = show_machine().and_then(|()| fork::show_copies());
    step("Remove the copies, and stop it; nothing is left", || {
        fork::clear_away()?;
        show(&["stop", NAME])?;
        show(&["rm", NAME])?;
        show(&["ps", "-a"])?;
        nothing_left()
    })?;
    shown?;
    println!("\nThe demo took {:.0} s in all.", begun.elapsed().as_secs_f64());
    Ok(())
}

fn show_machine() -> Result<()> {
    let address = quiet(&["port", NAME, "80"])?;
    step("Fetch the page from the host", || {
        let page = fetch_until(address.trim())?;
        let body = page.split("\r\n\r\n").nth(1).unwrap_or(&page);
        body.lines().take(4).for_each(|line| println!("   {line}"));
        Ok(())
    })?;
    step("Run a command in it", || show(&["exec", NAME, "uname", "-a"]))?;
    step("Its log", || show(&["logs", NAME]))?;
    step("Its processor time and memory, by its own account and the host's", || {
        show(&["stats", "--no-stream", NAME])
    })?;
    step("Its processes", || show(&["top", NAME]))
}

/// mmdebstrap takes packages as this host's apt is configured; without root it
/// works in a user namespace.
fn make_image() -> Result<()> {
    if quiet(&["image", "ls", "--json"])?.contains(IMAGE) {
        println!("   it is here already: {IMAGE}");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let tar = dir.path().join("nginx.tar");
    let tar = tar.to_string_lossy();
    println!("$ mmdebstrap --variant=minbase --include=nginx-light {RELEASE} nginx.tar");
    let hook = format!("--customize-hook={LOGS}");
    program("mmdebstrap", &["--quiet", "--variant=minbase", "--include=nginx-light", &hook, RELEASE, &tar])?;
    import(Path::new(&*tar))
}

fn import(tar: &Path) -> Result<()> {
    show(&[
        "image",
        "import",
        "--change",
        r#"CMD ["nginx", "-g", "daemon off;"]"#,
        "--change",
        "EXPOSE 80",
        &tar.to_string_lossy(),
        IMAGE,
    ])
}

fn fetch_until(address: &str) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    println!("$ curl http://{address}/");
    loop {
        match fetch(address) {
            Ok(page) if page.contains("nginx") => return Ok(page),
            Ok(page) if Instant::now() > end => bail!("not nginx's page: {page}"),
            Err(error) if Instant::now() > end => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn fetch(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn nothing_left() -> Result<()> {
    let left = quiet(&["ps", "-a", "--json", "--filter", &format!("name={NAME}")])?;
    ensure!(left.trim() == "[]", "the machine is still there: {left}");
    println!("   no machine, no process, no socket");
    Ok(())
}
