//! `make demo`: runs a real nginx, made from Debian's packages, in a microVM and
//! forks it into ten.

mod fork;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::narrate::{mimeo_output, program_output, show, step};

const IMAGE: &str = "localhost/nginx:demo";
const NAME: &str = "mimeo-demo";
const RELEASE: &str = "bookworm";
/// mmdebstrap's customize hook: sends nginx's logs to the container's output.
const LOGS_HOOK: &str =
    r#"ln -sf /dev/stdout "$1/var/log/nginx/access.log" && ln -sf /dev/stderr "$1/var/log/nginx/error.log""#;
/// nginx needs a few seconds to start under emulation on a busy host.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the whole demo.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    step("Set up this host: Debian's kernel, the initramfs and the host checks", || show(&["setup"]))?;
    step("Make an nginx image from Debian's packages", make_image)?;
    // Left by an interrupted demo.
    mimeo_output(&["rm", "--force", NAME])?;
    fork::remove_clones()?;
    step("Run it in a microVM with a published port", || {
        show(&["run", "-d", "--name", NAME, "-p", "127.0.0.1::80", IMAGE])
    })?;
    let shown = show_machine().and_then(|()| fork::show_clones());
    step("Remove the clones and the machine; nothing is left", || {
        fork::remove_clones()?;
        show(&["stop", NAME])?;
        show(&["rm", NAME])?;
        show(&["ps", "-a"])?;
        assert_nothing_left()
    })?;
    shown?;
    println!("\nThe demo took {:.0} s in total.", begun.elapsed().as_secs_f64());
    Ok(())
}

fn show_machine() -> Result<()> {
    let address = mimeo_output(&["port", NAME, "80"])?;
    step("Fetch the page from the host", || {
        let page = fetch_until(address.trim())?;
        let body = page.split("\r\n\r\n").nth(1).unwrap_or(&page);
        body.lines().take(4).for_each(|line| println!("   {line}"));
        Ok(())
    })?;
    step("Run a command in it", || show(&["exec", NAME, "uname", "-a"]))?;
    step("Show its log", || show(&["logs", NAME]))?;
    step("Show its CPU time and memory, as seen by the guest and by the host", || {
        show(&["stats", "--no-stream", NAME])
    })?;
    step("Show its processes", || show(&["top", NAME]))
}

/// mmdebstrap uses this host's apt configuration; without root it runs in a user
/// namespace.
fn make_image() -> Result<()> {
    if mimeo_output(&["image", "ls", "--json"])?.contains(IMAGE) {
        println!("   already in the store: {IMAGE}");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let tar = dir.path().join("nginx.tar");
    let tar = tar.to_string_lossy();
    println!("$ mmdebstrap --variant=minbase --include=nginx-light {RELEASE} nginx.tar");
    let hook = format!("--customize-hook={LOGS_HOOK}");
    program_output(
        "mmdebstrap",
        &["--quiet", "--variant=minbase", "--include=nginx-light", &hook, RELEASE, &tar],
    )?;
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
    let end = Instant::now() + START_TIMEOUT;
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

fn assert_nothing_left() -> Result<()> {
    let left = mimeo_output(&["ps", "-a", "--json", "--filter", &format!("name={NAME}")])?;
    ensure!(left.trim() == "[]", "the machine is still there: {left}");
    println!("   no machine, no process, no socket");
    Ok(())
}
