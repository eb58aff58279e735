//! A real registry on the loopback address.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimeo_image::{Event, PullOptions, Stage};

use crate::support::{Events, Home, Tar, TestImage, fsck, gzip, read};

/// Debian's docker-registry, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub(crate) fn start(home: &Home) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let config = home.path("registry.yml");
        let storage = home.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is needed");
        let server = Self { child, address };
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&self.address).is_err() {
            assert!(Instant::now() < deadline, "the registry did not start at {}", self.address);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn push(&self, home: &Home, folder: &std::path::Path, name: &str) {
        let policy = home.path("policy.json");
        std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let mut command = Command::new("skopeo");
        command.arg("--policy").arg(&policy).args(["copy", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}:v1", folder.display())).arg(format!("docker://{}/{name}", self.address));
        let out = command.output().expect("skopeo is needed");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn layout(home: &Home, layers: usize) -> std::path::PathBuf {
    let folder = home.path("layout");
    let tars = (0..layers).map(|n| Tar::new().file(&format!("f{n}"), &vec![n as u8; 200_000]).done());
    let tars: Vec<_> = tars.map(|tar: Vec<u8>| (tar.clone(), gzip(&tar))).collect();
    TestImage::from_layers(&tars, "amd64").write_layout(&folder, "v1");
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_not_downloaded_twice() {
    let home = Home::new();
    let server = Server::start(&home);
    server.push(&home, &layout(&home, 6), "team/app:v1");
    let name = format!("{}/team/app:v1", server.address);
    let source = name.parse().unwrap();
    let events = Arc::new(Events::default());
    let image = home.store.pull(&source, &PullOptions::default(), events.clone()).await.unwrap();
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/f5"), vec![5; 200_000]);
    assert_eq!(image.names, [name]);
    assert_eq!(count(&events, Stage::Present), 6);

    let events = Arc::new(Events::default());
    let again = home.store.pull(&source, &PullOptions::default(), events.clone()).await.unwrap();
    assert_eq!(again, image);
    assert_eq!(count(&events, Stage::Downloading), 0);

    let pinned = format!("{}/team/app@{}", server.address, image.digest);
    assert_eq!(home.pull(&pinned).await.unwrap().id, image.id);
    let missing = home.pull(&format!("{}/team/app:v9", server.address)).await.unwrap_err();
    assert!(crate::support::chain(&missing).contains("does not have it"), "{missing:?}");
}

pub(crate) fn count(events: &Events, expected: Stage) -> usize {
    let events = events.0.lock().unwrap();
    events.iter().filter(|event| matches!(event, Event::Layer { stage, .. } if *stage == expected)).count()
}
