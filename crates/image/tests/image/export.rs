//! Images that leave the store, and come back: export, load, push, and images with a layer more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mimeo_image::{
    ExportError, ExportFormat, Exported, HistoryEntry, Image, ImageConfig, LayerOptions, Limits, LocalError,
    PullError, PullOptions, Quiet, RegistryOptions, Stage, TagError,
};
use serde_json::Value;

use crate::registry::{Server, count};
use crate::support::{Events, Home, Tar, TestImage, chain, exists, fsck, gzip, read};

/// Pulls an image whose configuration has a history and a field that mimeo does not know.
async fn pull(home: &Home, name: &str, content: &[u8]) -> Image {
    let low = Tar::new().file("low", b"low").dir("d/").file("d/old", b"old").done();
    let high = Tar::new().file("high", content).done();
    let mut image =
        TestImage::from_layers(&[(low.clone(), gzip(&low)), (high.clone(), gzip(&high))], "amd64");
    image.change_config(|config| {
        config["config"]["OnBuild"] = serde_json::json!(["RUN true"]);
        config["history"] = serde_json::json!([{"created_by": "low"}, {"created_by": "ENV", "empty_layer": true},
            {"created_by": "high", "comment": "last"}]);
    });
    let folder = home.path(&format!("layout-{}", content.len()));
    image.write_layout(&folder, name);
    home.pull(&format!("oci:{}:{name}", folder.display())).await.unwrap()
}

fn exported(image: &Image) -> Exported {
    Exported { image: image.clone(), names: image.names.clone() }
}

fn archive(home: &Home, format: ExportFormat, images: &[&Image]) -> PathBuf {
    let path = home.path(&format!("{format:?}-{}.tar", images.len()));
    let images: Vec<_> = images.iter().map(|image| exported(image)).collect();
    home.store.export_archive(&images, format, File::create(&path).unwrap()).unwrap();
    path
}

/// The raw manifest of an image, as skopeo reads it.
fn skopeo_manifest(home: &Home, image: &str) -> Vec<u8> {
    let policy = home.path("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let mut command = Command::new("skopeo");
    command.arg("--policy").arg(&policy).args(["inspect", "--raw", "--tls-verify=false", image]);
    let out = command.output().expect("skopeo is needed");
    assert!(out.status.success(), "{image}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn blob(home: &Home, digest: impl ToString) -> PathBuf {
    home.store.root().join("blobs/sha256").join(digest.to_string().trim_start_matches("sha256:"))
}

#[tokio::test]
async fn an_oci_archive_has_the_manifest_that_was_received() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    let path = archive(&home, ExportFormat::OciArchive, &[&image]);
    let manifest = skopeo_manifest(&home, &format!("oci-archive:{}:quay.io/team/app:v1", path.display()));
    assert_eq!(manifest, fs::read(blob(&home, image.digest)).unwrap());
}

#[tokio::test]
async fn loaded_archives_give_the_same_images() {
    let home = Home::new();
    let first = pull(&home, "quay.io/team/app:v1", b"1").await;
    let second = pull(&home, "localhost/other:latest", b"22").await;
    for format in [ExportFormat::DockerArchive, ExportFormat::OciArchive] {
        let path = archive(&home, format, &[&first, &second, &first]);
        let packed = home.path("packed");
        fs::write(&packed, gzip(&fs::read(&path).unwrap())).unwrap();
        for path in [path, packed] {
            let other = Home::new();
            let loaded = other.store.load(&path, &PullOptions::default(), Arc::new(Quiet)).await.unwrap();
            let ids: Vec<_> = loaded.iter().map(|loaded| loaded.image.id).collect();
            assert_eq!(ids, [first.id, second.id], "{format:?}");
            assert!(loaded[0].names.contains(&"quay.io/team/app:v1".to_owned()), "{loaded:?}");
            assert_eq!(other.store.find("quay.io/team/app:v1").unwrap().unwrap().id, first.id);
            assert_eq!(other.store.find("localhost/other").unwrap().unwrap().id, second.id);
            assert_eq!(fs::read(&loaded[1].image.rootfs).unwrap(), fs::read(&second.rootfs).unwrap());
        }
    }
}

#[tokio::test]
async fn an_oci_directory_keeps_its_other_images() {
    let home = Home::new();
    let first = pull(&home, "quay.io/team/app:v1", b"1").await;
    let second = pull(&home, "localhost/other:latest", b"22").await;
    let folder = home.path("out");
    for image in [&first, &second, &first] {
        home.store.export_directory(&[exported(image)], ExportFormat::OciDir, &folder).unwrap();
    }
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    for (name, image) in [("quay.io/team/app:v1", &first), ("localhost/other:latest", &second)] {
        let manifest = skopeo_manifest(&home, &format!("oci:{}:{name}", folder.display()));
        assert_eq!(manifest, fs::read(blob(&home, image.digest)).unwrap());
    }
}

#[tokio::test]
async fn a_docker_directory_has_dockers_media_types() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    let folder = home.path("out");
    let exports = [exported(&image)];
    home.store.export_directory(&exports, ExportFormat::DockerDir, &folder).unwrap();
    home.store.export_directory(&exports, ExportFormat::DockerDir, &folder).unwrap();
    let manifest: Value =
        serde_json::from_slice(&skopeo_manifest(&home, &format!("dir:{}", folder.display()))).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert_eq!(manifest["config"]["digest"], image.id.to_string());
    let other = Home::new();
    let loaded = other.store.load(&folder, &PullOptions::default(), Arc::new(Quiet)).await.unwrap();
    assert_eq!((loaded[0].image.id, loaded[0].names.len()), (image.id, 0));
    fs::write(folder.join(image.layers[0].digest.hex()), b"other").unwrap();
    let other = Home::new();
    let error = other.store.load(&folder, &PullOptions::default(), Arc::new(Quiet)).await.unwrap_err();
    assert!(matches!(error, PullError::Local { source: LocalError::WrongDigest { .. }, .. }), "{error:?}");
    let error = home.store.export_directory(&exports, ExportFormat::DockerDir, home.dir.path()).unwrap_err();
    assert!(matches!(error, ExportError::Occupied { .. }), "{error:?}");
}

#[tokio::test]
async fn an_image_without_its_layers_is_not_exported() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    fs::remove_file(blob(&home, image.layers[0].digest)).unwrap();
    for format in [ExportFormat::DockerArchive, ExportFormat::OciArchive] {
        let error = home.store.export_archive(&[exported(&image)], format, Vec::new()).unwrap_err();
        assert!(chain(&error).ends_with("is not in the store: pull the image again"), "{}", chain(&error));
    }
    let again = pull(&home, "quay.io/team/app:v1", b"1").await;
    home.store.export_archive(&[exported(&again)], ExportFormat::OciArchive, Vec::new()).unwrap();
}

#[tokio::test]
async fn a_damaged_layer_is_not_exported() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    fs::write(blob(&home, image.layers[0].digest), gzip(b"other")).unwrap();
    let error =
        home.store.export_archive(&[exported(&image)], ExportFormat::DockerArchive, Vec::new()).unwrap_err();
    assert!(matches!(error, ExportError::Layer { .. }), "{error:?}");
    let error =
        home.store.export_archive(&[exported(&image)], ExportFormat::OciArchive, Vec::new()).unwrap_err();
    assert!(matches!(error, ExportError::Damaged { .. }), "{error:?}");
    let folder = home.path("out");
    let error = home.store.export_directory(&[exported(&image)], ExportFormat::OciDir, &folder).unwrap_err();
    assert!(matches!(error, ExportError::Damaged { .. }), "{error:?}");
    assert!(!folder.join("index.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_image_has_its_digest_and_layers_are_sent_once() {
    let home = Home::new();
    let server = Server::start(&home);
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    let push = async |name: String| {
        let events = Arc::new(Events::default());
        let options = RegistryOptions::default();
        let digest = home.store.push(&image, &name.parse().unwrap(), &options, events.clone()).await.unwrap();
        // Each blob reports its start; one that is sent reports its bytes, too.
        (digest, count(&events, Stage::Uploading) - count(&events, Stage::Present))
    };
    let name = format!("{}/a/app:v1", server.address);
    let (digest, sent) = push(name.clone()).await;
    assert!(sent >= 3, "{sent}");
    assert_eq!(digest, image.digest);
    assert_eq!(
        skopeo_manifest(&home, &format!("docker://{name}")),
        fs::read(blob(&home, image.digest)).unwrap()
    );
    assert_eq!(push(name.clone()).await, (digest, 0));
    // A tag in the same registry: its layers are taken from that repository.
    home.store.tag("quay.io/team/app:v1", &[name.parse().unwrap()]).unwrap();
    let (_, sent) = push(format!("{}/b/app:v2", server.address)).await;
    // Only the configuration, which is not among a repository's layers.
    assert!(sent <= 2, "{sent}");
    let other = Home::new();
    let pulled = other.pull(&format!("{}/b/app:v2", server.address)).await.unwrap();
    assert_eq!((pulled.id, pulled.digest), (image.id, image.digest));
    let pinned = format!("{name}@{}", image.digest).parse().unwrap();
    let error =
        home.store.push(&image, &pinned, &RegistryOptions::default(), Arc::new(Quiet)).await.unwrap_err();
    assert!(chain(&error).contains("give a tag"), "{}", chain(&error));
}

#[tokio::test]
async fn a_layer_is_added() {
    let home = Home::new();
    let base = pull(&home, "quay.io/team/app:v1", b"1").await;
    let tar = Tar::new().file("new", b"new").file("d/.wh.old", b"").done();
    let options = LayerOptions {
        config: Some(ImageConfig { cmd: vec!["/new".into()], user: String::new(), ..base.config.clone() }),
        step: HistoryEntry {
            created_by: Some("commit".into()),
            author: Some("me".into()),
            ..HistoryEntry::default()
        },
        names: vec!["localhost/made:1".parse().unwrap()],
        limits: Limits::default(),
    };
    let add = || home.store.add_layer(&base, &tar[..], Path::new("machine"), &options, Arc::new(Quiet));
    let image = add().unwrap();
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/new"), b"new");
    assert_eq!(read(&image.rootfs, "/low"), b"low");
    assert!(!exists(&image.rootfs, "/d/old"));
    assert_eq!((&image.layers[..2], image.layers.len()), (&base.layers[..], 3));
    assert_eq!((image.config.cmd, image.config.user), (vec!["/new".to_owned()], String::new()));
    let inspection = home.store.inspect("localhost/made:1").unwrap().unwrap();
    assert_eq!(inspection.document["config"]["OnBuild"][0], "RUN true");
    assert!(inspection.document["config"]["User"].is_null(), "{}", inspection.document);
    assert_eq!(inspection.document["author"], "me");
    assert_eq!(inspection.document["architecture"], "amd64");
    let (_, steps) = home.store.history("localhost/made:1").unwrap().unwrap();
    let commands: Vec<_> =
        steps.iter().map(|step| step.entry.created_by.as_deref().unwrap_or_default()).collect();
    assert_eq!(commands, ["commit", "high", "ENV", "low"]);
    assert_eq!((steps[0].size, steps[2].size), (tar.len() as u64, 0));
    // It is an image like any other.
    let path = archive(&home, ExportFormat::OciArchive, &[&inspection.image]);
    skopeo_manifest(&home, &format!("oci-archive:{}", path.display()));
    fs::remove_file(blob(&home, base.layers[0].digest)).unwrap();
    assert!(chain(&add().unwrap_err()).contains("pull the image again"));
}

#[tokio::test]
async fn an_added_layer_over_the_limit_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let base = pull(&home, "quay.io/team/app:v1", &[1; 6000]).await;
    let stored = || fs::read_dir(home.store.root().join("blobs/sha256")).unwrap().count();
    let before = stored();
    let limits = Limits { unpacked_bytes: 8192, ..Limits::default() };
    let options = LayerOptions { limits, ..LayerOptions::default() };
    // A guest that never ends its data.
    let endless = std::io::repeat(0);
    let error = home.store.add_layer(&base, endless, Path::new("changes"), &options, Arc::new(Quiet));
    let error = chain(&error.unwrap_err());
    assert!(error.contains("changes are more than the limit of 8192 bytes"), "{error}");
    // The layer alone is within the limit; with the base's it is not.
    let tar = Tar::new().file("new", b"new").done();
    let error = home.store.add_layer(&base, &tar[..], Path::new("changes"), &options, Arc::new(Quiet));
    let error = chain(&error.unwrap_err());
    assert!(error.contains("unpacks to more than the limit"), "{error}");
    assert_eq!(stored(), before);
    assert_eq!(fs::read_dir(home.store.root().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_added_layer_that_compresses_well_is_no_bomb() {
    let home = Home::new();
    let base = pull(&home, "quay.io/team/app:v1", b"1").await;
    let limits = Limits { ratio: 10, ratio_floor: 4096, ..Limits::default() };
    let options = LayerOptions { limits, ..LayerOptions::default() };
    let tar = Tar::new().file("zeros", &[0; 1 << 20]).done();
    let add =
        |base, tar: &[u8]| home.store.add_layer(base, tar, Path::new("machine"), &options, Arc::new(Quiet));
    let image = add(&base, &tar).unwrap();
    assert_eq!(read(&image.rootfs, "/zeros"), [0; 1 << 20]);
    // Nor when it is the base's.
    let image = add(&image, &Tar::new().file("more", b"more").done()).unwrap();
    assert_eq!(read(&image.rootfs, "/more"), b"more");
}

#[tokio::test]
async fn content_of_an_added_layer_outlives_its_base() {
    let home = Home::new();
    let base = pull(&home, "quay.io/team/app:v1", b"1").await;
    let tar = Tar::new().file("new", b"new").done();
    let options =
        LayerOptions { names: vec!["localhost/made:1".parse().unwrap()], ..LayerOptions::default() };
    let image =
        home.store.add_layer(&base, &tar[..], Path::new("machine"), &options, Arc::new(Quiet)).unwrap();
    home.store.remove("quay.io/team/app:v1", false, &|_| None).unwrap();
    home.store.prune(false, &|_| None).unwrap();
    archive(&home, ExportFormat::DockerArchive, &[&image]);
    home.store.remove("localhost/made:1", false, &|_| None).unwrap();
    assert_eq!(fs::read_dir(home.store.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[tokio::test]
async fn names_are_added_moved_and_taken() {
    let home = Home::new();
    let first = pull(&home, "quay.io/team/app:v1", b"1").await;
    let second = pull(&home, "localhost/other:latest", b"22").await;
    let name = |text: &str| mimeo_image::ImageName::new_local(text).unwrap();
    let names = |image: &Image| home.store.find(&image.id.to_string()).unwrap().unwrap().names;
    home.store.tag("quay.io/team/app:v1", &[name("a"), name("team/b:2")]).unwrap();
    assert_eq!(names(&first), ["localhost/a:latest", "localhost/team/b:2", "quay.io/team/app:v1"]);
    home.store.tag(&second.short_id(), &[name("a")]).unwrap();
    assert_eq!(names(&second), ["localhost/a:latest", "localhost/other:latest"]);
    assert!(matches!(home.store.tag("nothing", &[name("x")]), Err(TagError::NoImage { .. })));
    let pinned = format!("quay.io/x@{}", first.digest).parse().unwrap();
    assert!(matches!(home.store.tag("a", &[pinned]), Err(TagError::HasDigest { .. })));
    let error = home.store.untag("a", &[name("other"), name("team/b:2")]);
    assert!(matches!(error, Err(TagError::NoName { .. })), "{error:?}");
    assert_eq!(names(&second).len(), 2);
    home.store.untag("a", &[name("other")]).unwrap();
    assert_eq!(names(&second), ["localhost/a:latest"]);
    home.store.untag(&first.id.to_string(), &[]).unwrap();
    assert!(names(&first).is_empty());
}

#[tokio::test]
async fn a_bomb_of_an_archive_is_refused() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    let path = archive(&home, ExportFormat::DockerArchive, &[&image]);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len() + (16 << 20), 0);
    let packed = home.path("bomb.tar.gz");
    fs::write(&packed, gzip(&bytes)).unwrap();
    let limits = Limits { ratio_floor: 1 << 20, ..Limits::default() };
    let options = PullOptions { limits, ..PullOptions::default() };
    let source = format!("docker-archive:{}", packed.display());
    let refused = home.pull_with(&source, &options).await.unwrap_err();
    assert!(matches!(refused, PullError::Local { source: LocalError::Unpack(_), .. }), "{refused:?}");
    assert!(chain(&refused).contains("unpack to more than 100 times as many"), "{}", chain(&refused));
    let refused = home.store.load(&packed, &options, Arc::new(Quiet)).await.unwrap_err();
    assert!(chain(&refused).contains("unpack to more than 100 times as many"), "{}", chain(&refused));
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let refused =
        home.pull_with(&source, &PullOptions { limits, ..PullOptions::default() }).await.unwrap_err();
    assert!(chain(&refused).contains("more than the limit of 1048576 bytes"), "{}", chain(&refused));
    assert_eq!(fs::read_dir(home.store.root().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_plain_tag_of_a_layout_becomes_a_local_name() {
    let home = Home::new();
    let image = pull(&home, "quay.io/team/app:v1", b"1").await;
    let load = async |names: Vec<String>| {
        let path = home.path("tagged.tar");
        let images = [Exported { image: image.clone(), names }];
        home.store.export_archive(&images, ExportFormat::OciArchive, File::create(&path).unwrap()).unwrap();
        home.store.load(&path, &PullOptions::default(), Arc::new(Quiet)).await.unwrap().remove(0).names
    };
    assert_eq!(load(vec!["v1".to_owned()]).await, ["localhost/v1:latest"]);
    assert_eq!(load(vec!["Not A Name".to_owned()]).await, [""; 0]);
    assert_eq!(load(Vec::new()).await, [""; 0]);
}

#[tokio::test]
async fn a_file_that_holds_no_images_is_refused() {
    let home = Home::new();
    let plain = home.path("plain.tar");
    fs::write(&plain, Tar::new().file("x", b"").done()).unwrap();
    let load = async |path: &Path| {
        chain(&home.store.load(path, &PullOptions::default(), Arc::new(Quiet)).await.unwrap_err())
    };
    assert!(load(&plain).await.ends_with("it has no manifest.json and no index.json"));
    assert!(load(&home.path("none.tar")).await.contains("cannot open"));
}
