//! The store's operations, its records, and its behaviour after a crash.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mimeo_image::{FindError, Image, ImportOptions, PullOptions, Quiet, RemoveError};

use crate::support::{Home, Tar, TestImage, fsck, gzip, read};

fn unused(_: &Image) -> Option<String> {
    None
}

fn used(_: &Image) -> Option<String> {
    Some("machine m1".to_owned())
}

async fn pull(home: &Home, name: &str, content: &[u8]) -> Image {
    let tar = Tar::new().file("f", content).done();
    let folder = home.path(&format!("layout-{}", content.len()));
    TestImage::from_layers(&[(tar.clone(), gzip(&tar))], "amd64").write_layout(&folder, name);
    home.pull(&format!("oci:{}:{name}", folder.display())).await.unwrap()
}

fn files(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[tokio::test]
async fn images_are_found_by_name_short_name_and_id() {
    let home = Home::new();
    let nginx = pull(&home, "docker.io/library/nginx:latest", b"1").await;
    let own = pull(&home, "localhost/app:v1", b"22").await;
    let quay = pull(&home, "quay.io/team/tool:latest", b"333").await;
    let id = |text: &str| home.store.find(text).unwrap().map(|image| image.id);
    for text in
        ["nginx", "nginx:latest", "docker.io/nginx", "library/nginx", &nginx.id.hex(), &nginx.short_id()]
    {
        assert_eq!(id(text), Some(nginx.id), "{text}");
    }
    assert_eq!(id("app:v1"), Some(own.id));
    assert_eq!(id("localhost/app:v1"), Some(own.id));
    assert_eq!(id("tool"), Some(quay.id));
    assert_eq!(id(&quay.id.to_string()), Some(quay.id));
    for text in ["app", "other", "quay.io/nginx", "ffffffffffffffff", ""] {
        assert_eq!(id(text), None, "{text}");
    }
}

#[tokio::test]
async fn ambiguous_names_are_refused() {
    let home = Home::new();
    pull(&home, "quay.io/a/tool:latest", b"1").await;
    pull(&home, "ghcr.io/b/tool:latest", b"22").await;
    assert!(
        matches!(home.store.find("tool"), Err(FindError::Ambiguous { candidates, .. }) if candidates.len() == 2)
    );
}

#[tokio::test]
async fn a_name_moves_to_the_newer_image() {
    let home = Home::new();
    let old = pull(&home, "localhost/app:v1", b"1").await;
    let new = pull(&home, "localhost/app:v1", b"22").await;
    assert_eq!(home.store.find("app:v1").unwrap().unwrap().id, new.id);
    assert!(home.store.find(&old.id.hex()).unwrap().unwrap().names.is_empty());
    let pruned = home.store.prune(false, &unused).unwrap();
    assert_eq!(pruned.deleted, [old.id]);
    assert!(!old.rootfs.exists() && new.rootfs.exists());
}

#[tokio::test]
async fn an_image_in_use_is_not_removed() {
    let home = Home::new();
    let image = pull(&home, "localhost/app:v1", b"1").await;
    let error = home.store.remove("app:v1", false, &used).unwrap_err();
    assert!(matches!(&error, RemoveError::InUse { user, .. } if user == "machine m1"), "{error:?}");
    assert!(matches!(home.store.remove("other", false, &unused), Err(RemoveError::NotFound { .. })));
    let removed = home.store.remove("app:v1", true, &used).unwrap();
    assert_eq!(removed.deleted, Some(image.id));
    assert!(removed.freed > 0);
    assert!(!image.rootfs.exists());
    assert_eq!(files(&home.store.root().join("blobs/sha256")), 0);
}

#[tokio::test]
async fn one_of_several_names_is_only_untagged() {
    let home = Home::new();
    let image = pull(&home, "localhost/app:v1", b"1").await;
    let again = pull(&home, "localhost/app:v2", b"1").await;
    assert_eq!(again.names, ["localhost/app:v1", "localhost/app:v2"]);
    let error = home.store.remove(&image.short_id(), false, &unused).unwrap_err();
    assert!(matches!(error, RemoveError::SeveralNames { .. }), "{error:?}");
    let removed = home.store.remove("app:v1", false, &used).unwrap();
    assert_eq!((removed.untagged, removed.deleted), (vec!["localhost/app:v1".to_owned()], None));
    assert!(image.rootfs.exists());
}

#[tokio::test]
async fn prune_keeps_images_in_use_and_removes_leftovers() {
    let home = Home::new();
    let image = pull(&home, "localhost/app:v1", b"1").await;
    let root = home.store.root();
    let partial = root.join("blobs/sha256").join(format!("{}.partial", "a".repeat(64)));
    fs::write(&partial, "half").unwrap();
    fs::write(root.join("tmp/left"), "half").unwrap();
    let pruned = home.store.prune(true, &used).unwrap();
    assert!(pruned.deleted.is_empty() && !pruned.busy);
    assert!(image.rootfs.exists() && !partial.exists());
    assert_eq!(files(&root.join("tmp")) + files(&root.join("locks")), 0);
    assert_eq!(home.store.prune(true, &unused).unwrap().deleted, [image.id]);
    assert_eq!(
        files(&root.join("blobs/sha256")) + files(&root.join("rootfs")) + files(&root.join("names")),
        0
    );
}

#[tokio::test]
async fn a_broken_record_is_set_aside_with_its_content() {
    let home = Home::new();
    let image = pull(&home, "localhost/app:v1", b"1").await;
    let record = home.store.root().join("images").join(format!("{}.json", image.id.hex()));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, &text[..text.len() - 10]).unwrap();
    let listing = home.store.list().unwrap();
    assert!(listing.images.is_empty());
    assert_eq!(listing.set_aside.len(), 1);
    assert!(listing.set_aside[0].to_string_lossy().contains(".json.corrupt-"));
    let pruned = home.store.prune(true, &unused).unwrap();
    assert_eq!(pruned.set_aside, listing.set_aside);
    assert!(image.rootfs.exists());
    assert_eq!(pull(&home, "localhost/app:v1", b"1").await.id, image.id);
}

#[tokio::test]
async fn the_json_shape_is_stable() {
    let home = Home::new();
    let image = pull(&home, "localhost/app:v1", b"1").await;
    let value = serde_json::to_value(&image).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["architecture", "config", "created", "digest", "id", "layers", "names", "os", "rootfs", "size"];
    assert_eq!(keys, expected);
    assert_eq!(value["created"], "2024-05-01T10:00:00Z");
    assert_eq!(value["config"]["exposed_ports"], serde_json::json!(["80/tcp"]));
    let inspection = home.store.inspect("app:v1").unwrap().unwrap();
    let value = serde_json::to_value(&inspection).unwrap();
    assert_eq!(value["manifest"]["schemaVersion"], 2);
    assert_eq!(value["document"]["architecture"], "amd64");
    assert_eq!(value["id"], image.id.to_string());
}

#[tokio::test]
async fn concurrent_pulls_both_succeed() {
    let home = Home::new();
    let tar = Tar::new().file("f", &vec![9; 3 << 20]).done();
    let folder = home.path("layout");
    TestImage::from_layers(&[(tar.clone(), gzip(&tar))], "amd64").write_layout(&folder, "v1");
    let source = format!("oci:{}", folder.display());
    let (a, b) = tokio::join!(home.pull(&source), home.pull(&source));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(files(&home.store.root().join("rootfs")), 1);
}

#[test]
fn a_tar_file_is_imported_with_changes() {
    let home = Home::new();
    let tar = Tar::new().dir("bin").file("bin/app", b"run").done();
    let changes = ["CMD [\"/bin/app\"]", "ENV A=1", "WORKDIR /bin", "EXPOSE 8080"];
    let options = ImportOptions {
        name: Some("localhost/imported:v1".parse().unwrap()),
        changes: changes.iter().map(|text| text.parse().unwrap()).collect(),
        ..ImportOptions::default()
    };
    let packed = gzip(&tar);
    let image = home.store.import(&packed[..], Path::new("app.tar.gz"), &options, Arc::new(Quiet)).unwrap();
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/bin/app"), b"run");
    assert_eq!(image.config.cmd, ["/bin/app"]);
    assert_eq!(image.config.exposed_ports, ["8080/tcp"]);
    assert_eq!(home.store.find("imported:v1").unwrap().unwrap(), image);
    assert!(home.store.import(&b"BZh9"[..], Path::new("x"), &options, Arc::new(Quiet)).is_err());
}

#[tokio::test]
async fn a_hundred_thousand_files() {
    let home = Home::new();
    let mut tar = Tar::new();
    for n in 0..100_000 {
        tar = tar.file(&format!("d{}/{n}", n % 50), b"x");
    }
    for n in 0..20_000 {
        tar = tar.file(&format!("flat/{n}"), b"");
    }
    let tar = tar.done();
    let start = std::time::Instant::now();
    let image = home.pull_packed(&[(tar.clone(), tar)], &PullOptions::default()).await.unwrap();
    println!("120,000 files: {:?}", start.elapsed());
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/d7/99957"), b"x");
}
