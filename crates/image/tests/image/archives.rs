//! Images in local files, as written by other tools.

use std::path::Path;
use std::process::Command;

use mimeo_image::{LocalError, PullError};
use serde_json::Value;

use crate::support::{Home, Tar, TestImage, chain, fsck, gzip, read};

fn layout(folder: &Path, architecture: &str) {
    let low = Tar::new().file("etc/name", b"low").done();
    let high = Tar::new().file("etc/name", b"high").done();
    let layers = [(low.clone(), gzip(&low)), (high.clone(), gzip(&high))];
    TestImage::from_layers(&layers, architecture).write_layout(folder, "v1");
}

fn skopeo(home: &Home, from: &str, to: &str) {
    let policy = home.path("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let mut command = Command::new("skopeo");
    command.arg("--policy").arg(&policy).args(["copy", "--dest-tls-verify=false", from, to]);
    let out = command.output().expect("skopeo is needed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn skopeo_archives_give_the_same_filesystem() {
    let home = Home::new();
    let folder = home.path("layout");
    layout(&folder, "amd64");
    let from = format!("oci:{}:v1", folder.display());
    let docker = home.path("docker.tar");
    let oci = home.path("oci.tar");
    skopeo(&home, &from, &format!("docker-archive:{}:example.test/app:v1", docker.display()));
    skopeo(&home, &from, &format!("oci-archive:{}:v1", oci.display()));
    let packed = home.path("docker.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&docker).unwrap())).unwrap();

    let first = home.pull(&from).await.unwrap();
    fsck(&first.rootfs);
    assert_eq!(first.names, ["localhost/layout:v1"]);
    for source in [
        format!("docker-archive:{}", docker.display()),
        format!("docker-archive:{}:example.test/app:v1", docker.display()),
        format!("docker-archive:{}", packed.display()),
        format!("oci-archive:{}:v1", oci.display()),
        format!("oci-archive:{}", oci.display()),
    ] {
        let image = home.pull(&source).await.unwrap();
        assert_eq!(image.rootfs, first.rootfs, "{source}");
    }
    assert_eq!(read(&first.rootfs, "/etc/name"), b"high");
    assert!(home.store.find("example.test/app:v1").unwrap().is_some());
}

#[tokio::test]
async fn umoci_images_are_read() {
    let home = Home::new();
    let (folder, bundle) = (home.path("layout"), home.path("bundle"));
    let image = format!("{}:app", folder.display());
    let umoci = |args: &[&str]| {
        let out = Command::new("umoci").args(args).output().expect("umoci is needed");
        assert!(out.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    let bundle_text = bundle.display().to_string();
    umoci(&["init", "--layout", &folder.display().to_string()]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--rootless", "--image", &image, &bundle_text]);
    std::fs::create_dir(bundle.join("rootfs/etc")).unwrap();
    std::fs::write(bundle.join("rootfs/etc/a"), "1").unwrap();
    std::fs::write(bundle.join("rootfs/etc/b"), "2").unwrap();
    umoci(&["repack", "--refresh-bundle", "--image", &image, &bundle_text]);
    std::fs::remove_file(bundle.join("rootfs/etc/a")).unwrap();
    umoci(&["repack", "--refresh-bundle", "--image", &image, &bundle_text]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/true"]);
    let pulled = home.pull(&format!("oci:{image}")).await.unwrap();
    fsck(&pulled.rootfs);
    assert_eq!(pulled.layers.len(), 2);
    assert_eq!(pulled.config.cmd, ["/bin/true"]);
    assert_eq!(read(&pulled.rootfs, "/etc/b"), b"2");
    assert!(!crate::support::exists(&pulled.rootfs, "/etc/a"));
}

#[tokio::test]
async fn another_architecture_is_refused_with_both_named() {
    let home = Home::new();
    let folder = home.path("layout");
    layout(&folder, "arm64");
    let error = home.pull(&format!("oci:{}", folder.display())).await.unwrap_err();
    assert!(
        chain(&error).ends_with("the image is for linux/arm64, not for linux/amd64"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn an_image_that_does_not_say_its_architecture_is_used() {
    for change in [
        |config: &mut Value| config["architecture"] = "".into(),
        |config: &mut Value| config["architecture"] = "x86_64".into(),
        |config: &mut Value| config["architecture"] = Value::Null,
        |config: &mut Value| {
            config.as_object_mut().unwrap().retain(|key, _| key != "os" && key != "architecture")
        },
    ] {
        let home = Home::new();
        let folder = home.path("layout");
        let tar = Tar::new().file("x", b"1").done();
        let mut image = TestImage::from_layers(&[(tar.clone(), gzip(&tar))], "amd64");
        image.change_config(change);
        image.write_layout(&folder, "v1");
        let pulled = home.pull(&format!("oci:{}", folder.display())).await.unwrap();
        assert_eq!(pulled.config.cmd, ["/bin/sh"]);
    }
}

#[tokio::test]
async fn missing_members_are_named() {
    let home = Home::new();
    let folder = home.path("layout");
    layout(&folder, "amd64");
    let error = home.pull(&format!("oci:{}:v9", folder.display())).await.unwrap_err();
    assert!(matches!(error, PullError::Local { source: LocalError::NoSuchTag { .. }, .. }), "{error:?}");
    let error = home.pull(&format!("oci:{}", home.path("none").display())).await.unwrap_err();
    assert!(chain(&error).contains("none/index.json"), "{}", chain(&error));
    let error = home.pull(&format!("docker-archive:{}", home.path("none.tar").display())).await.unwrap_err();
    assert!(chain(&error).contains("none.tar"), "{}", chain(&error));
    let tar = home.path("plain.tar");
    std::fs::write(&tar, Tar::new().file("x", b"").done()).unwrap();
    let error = home.pull(&format!("docker-archive:{}", tar.display())).await.unwrap_err();
    assert!(chain(&error).ends_with("it has no manifest.json"), "{}", chain(&error));
}

#[tokio::test]
async fn a_blob_with_another_digest_is_refused() {
    let home = Home::new();
    let folder = home.path("layout");
    let tar = Tar::new().file("x", b"1").done();
    let packed = gzip(&tar);
    TestImage::from_layers(&[(tar, packed.clone())], "amd64").write_layout(&folder, "v1");
    let blob = folder.join("blobs/sha256").join(mimeo_image::Digest::compute(&packed).hex());
    std::fs::write(blob, b"other").unwrap();
    let error = home.pull(&format!("oci:{}", folder.display())).await.unwrap_err();
    assert!(matches!(error, PullError::Local { source: LocalError::WrongDigest { .. }, .. }), "{error:?}");
}
