//! Layers that must be refused; each error names the digest and the entry.

use std::io::Write;

use mimeo_image::{BuildError, Digest, LayerError, LayerProblem, Limits, PullError, PullOptions};
use tar::EntryType;

use crate::support::{Home, Tar, TestImage, chain, gzip, header};

async fn refusal_of(plain: Vec<u8>, packed: Vec<u8>, limits: Limits) -> LayerError {
    let home = Home::new();
    let digest = Digest::compute(&packed);
    let options = PullOptions { limits, ..PullOptions::default() };
    let error = home.pull_packed(&[(plain, packed)], &options).await.unwrap_err();
    assert!(chain(&error).contains(&digest.to_string()), "{}", chain(&error));
    let PullError::Build { source: BuildError::Layer(error), .. } = error else { panic!("{error:?}") };
    assert!(home.store.list().unwrap().images.is_empty());
    assert_eq!(std::fs::read_dir(home.store.root().join("rootfs")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(home.store.root().join("tmp")).unwrap().count(), 0);
    error
}

async fn refusal(tar: Vec<u8>) -> LayerError {
    let packed = gzip(&tar);
    refusal_of(tar, packed, Limits::default()).await
}

#[tokio::test]
async fn paths_with_parent_components() {
    for path in ["../etc/passwd", "a/../../b", "/../x"] {
        let error = refusal(Tar::new().file(path, b"x").done()).await;
        assert!(matches!(*error.problem, LayerProblem::Climbs), "{error:?}");
        assert_eq!(error.entry.as_deref(), Some(path));
    }
}

#[tokio::test]
async fn hard_links_to_missing_or_outside_targets() {
    let error = refusal(Tar::new().link("x", "../../etc/shadow").done()).await;
    assert!(matches!(*error.problem, LayerProblem::LinkClimbs { .. }), "{error:?}");
    let error = refusal(Tar::new().symlink("out", "/etc").link("x", "out/shadow").done()).await;
    assert!(matches!(*error.problem, LayerProblem::LinkMissing { .. }), "{error:?}");
}

#[tokio::test]
async fn symlink_loops() {
    let error = refusal(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::TooManyLinks { .. }), "{error:?}");
}

#[tokio::test]
async fn names_that_no_filesystem_can_store() {
    let long = "n".repeat(300);
    let error = refusal(Tar::new().pax(&[("path", long.as_bytes())]).file("x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::NameTooLong { bytes: 300, .. }), "{error:?}");
    let deep = "d/".repeat(3000);
    let error = refusal(Tar::new().pax(&[("path", deep.as_bytes())]).file("x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::NameTooLong { bytes: 6000, .. }), "{error:?}");
    let error = refusal(Tar::new().pax(&[("path", b"a\0b")]).file("x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::BadName), "{error:?}");
}

#[tokio::test]
async fn a_long_name_record_is_not_held_in_memory() {
    let mut tar = Vec::new();
    let mut record = header("././@LongLink", EntryType::GNULongName, 8 << 30);
    record.set_cksum();
    tar.extend_from_slice(record.as_bytes());
    tar.extend_from_slice(&[b'a'; 4096]);
    let error = refusal(tar).await;
    assert!(matches!(*error.problem, LayerProblem::NameTooLong { .. }), "{error:?}");
}

#[tokio::test]
async fn broken_pax_records() {
    let error =
        refusal(Tar::new().add("pax", EntryType::XHeader, b"999 path=x\n", |_| {}).file("x", b"").done())
            .await;
    assert!(matches!(*error.problem, LayerProblem::BadPax { .. }), "{error:?}");
}

#[tokio::test]
async fn invalid_headers() {
    let mut tar = Tar::new().file("x", b"data").done();
    tar[148] ^= 1;
    assert!(matches!(*refusal(tar).await.problem, LayerProblem::BadHeader { detail: "checksum" }));
    let error = refusal(Tar::new().add("x", EntryType::new(b'Q'), b"", |_| {}).done()).await;
    assert!(matches!(*error.problem, LayerProblem::UnknownType { kind: 'Q' }), "{error:?}");
    let error = refusal(Tar::new().add("", EntryType::Symlink, b"", |_| {}).done()).await;
    assert!(matches!(*error.problem, LayerProblem::Root), "{error:?}");
}

#[tokio::test]
async fn truncated_layers() {
    let tar = Tar::new().file("x", &[7; 100_000]).done();
    let cut = tar[..50_000].to_vec();
    let error = refusal(cut).await;
    assert!(matches!(*error.problem, LayerProblem::Truncated), "{error:?}");
    assert_eq!(error.entry.as_deref(), Some("x"));
    let packed = gzip(&tar);
    let half = packed[..packed.len() / 2].to_vec();
    let error = refusal_of(tar, half, Limits::default()).await;
    assert!(matches!(*error.problem, LayerProblem::Truncated | LayerProblem::BadCompression(_)), "{error:?}");
}

#[tokio::test]
async fn content_of_another_diff_id() {
    let home = Home::new();
    let tar = Tar::new().file("x", b"1").done();
    let other = Digest::compute(b"other").to_string();
    let folder = home.path("layout");
    TestImage::with_diff_ids(vec![gzip(&tar)], &[other], "amd64").write_layout(&folder, "v1");
    let error = home.pull(&format!("oci:{}", folder.display())).await.unwrap_err();
    assert!(chain(&error).contains("where the image's configuration says"), "{}", chain(&error));
}

#[tokio::test]
async fn unknown_compressions() {
    let error = refusal_of(Vec::new(), b"BZh91AY&SY".to_vec(), Limits::default()).await;
    assert!(matches!(*error.problem, LayerProblem::UnknownCompression), "{error:?}");
}

/// A gzip stream of a tar with one file of zeros, built without holding the tar in memory.
fn bomb(bytes: u64) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut head = header("zeros", EntryType::Regular, 0);
    head.set_size(bytes);
    head.set_cksum();
    out.write_all(head.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        out.write_all(&zeros).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn compression_bombs() {
    let limits = Limits { ratio_floor: 1 << 20, ..Limits::default() };
    let error = refusal_of(Vec::new(), bomb(8 << 20), limits).await;
    assert!(matches!(*error.problem, LayerProblem::Bomb { ratio: 100, .. }), "{error:?}");
    assert_eq!(error.entry.as_deref(), Some("zeros"));
}

#[tokio::test]
async fn more_bytes_than_the_limit() {
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let tar = Tar::new().file("big", &vec![1; 2 << 20]).done();
    let error = refusal_of(tar.clone(), gzip(&tar), limits).await;
    assert!(matches!(*error.problem, LayerProblem::TooLarge { limit: 0x10_0000 }), "{error:?}");
}

#[tokio::test]
async fn a_sparse_file_is_charged_for_its_full_size() {
    let mut head = tar::Header::new_gnu();
    head.set_path("sparse").unwrap();
    head.set_entry_type(EntryType::GNUSparse);
    head.set_size(0);
    head.set_mode(0o644);
    head.set_uid(0);
    head.set_gid(0);
    head.set_mtime(0);
    // 100 GB in base 256.
    let real = 100_000_000_000u64.to_be_bytes();
    let gnu = head.as_gnu_mut().unwrap();
    gnu.realsize[0] = 0x80;
    gnu.realsize[4..].copy_from_slice(&real);
    head.set_cksum();
    let error = refusal(head.as_bytes().to_vec()).await;
    assert!(matches!(*error.problem, LayerProblem::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn more_entries_than_the_limit() {
    let limits = Limits { entries: 10, ..Limits::default() };
    let tar = (0..11).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b"")).done();
    let error = refusal_of(tar.clone(), gzip(&tar), limits).await;
    assert!(matches!(*error.problem, LayerProblem::TooManyEntries { limit: 10 }), "{error:?}");
}

#[tokio::test]
async fn xattrs_too_large_for_ext4() {
    let big = vec![b'v'; 5000];
    let error = refusal(Tar::new().pax(&[("SCHILY.xattr.user.big", &big)]).file("x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::XattrsTooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn lost_and_found_with_content() {
    let error = refusal(Tar::new().file("lost+found/x", b"").done()).await;
    assert!(matches!(*error.problem, LayerProblem::LostFound), "{error:?}");
}
