//! Handshakes, and refusals: a refused client is killed, and the server continues.

use std::time::Duration;

use mimeo_pager::PAGE;
use mimeo_pager::fake::{ALL_FEATURES, FEATURES};
use mimeo_pager::serve::HandshakeError::{self, *};
use mimeo_pager::serve::{End, Options};

use crate::server::{Server, memory, untested};
use crate::vmm::Vmm;

/// Sends a message, and returns why it was refused.
fn refused(server: &Server, mut vmm: Vmm, what: &str) -> HandshakeError {
    vmm.tell(&format!("say {} {what}", server.socket().display()));
    let gone = server.departure();
    assert_eq!(gone.pid, vmm.pid(), "{what}");
    while vmm.answer().is_some() {}
    assert!(!vmm.ended().success(), "{what}");
    match gone.end {
        End::Refused(error) => error,
        end => panic!("{what}: {end:?}"),
    }
}

/// Whether an error is the expected one.
type Is = fn(&HandshakeError) -> bool;

#[test]
fn who_says_what_is_wrong_is_refused_by_name_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 300, std::slice::from_ref(&(0..300)));
    let mut server = Server::start(&file, Options::default());
    let cases: [(&str, Is); 19] = [
        ("half", |error| matches!(error, Cut { bytes: 1.. })),
        ("words", |error| matches!(error, Words(_))),
        ("object", |error| matches!(error, Words(_))),
        ("more", |error| matches!(error, Words(_))),
        ("long", |error| matches!(error, Long { .. })),
        ("bare", |error| matches!(error, NoDescriptor)),
        ("two", |error| matches!(error, ManyDescriptors)),
        ("many", |error| matches!(error, ManyDescriptors)),
        ("file", |error| matches!(error, NoUserfault { name } if name == "/dev/null")),
        ("none", |error| matches!(error, NoRegions)),
        ("crowd", |error| matches!(error, ManyRegions { count: 1025, .. })),
        ("empty", |error| matches!(error, Region { size: 0, .. })),
        ("odd", |error| matches!(error, Region { size: 4097, .. })),
        ("page", |error| matches!(error, PageSize { bytes: 8192 })),
        ("beyond", |error| matches!(error, Beyond { .. })),
        ("addresses", |error| matches!(error, Overlap { .. })),
        ("offsets", |error| matches!(error, Overlap { .. })),
        ("half", |error| matches!(error, Cut { bytes: 1.. })),
        ("file", |error| matches!(error, NoUserfault { .. })),
    ];
    for (what, is_it) in cases {
        let error = refused(&server, Vmm::start(&[100, 200]), what);
        assert!(is_it(&error), "{what}: {error:?}");
    }
    let mut vmm = Vmm::served(&[100, 200], &server.socket());
    assert!(vmm.read_all(300, "shuffled", 2) == wanted);
    vmm.kill();
    let figures = server.ended();
    assert_eq!((figures.clones, figures.refused), (1, 19));
}

#[test]
fn features_that_cannot_be_served_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 300, std::slice::from_ref(&(0..300)));
    let server = Server::start(&file, Options::default());
    for features in [0, ALL_FEATURES & !FEATURES] {
        let error = refused(&server, Vmm::with(&[300], PAGE, features), "new");
        assert!(matches!(error, Features { .. }), "{error:?}");
    }
    let fork = 1 << 1;
    match Vmm::try_with(&[300], PAGE, FEATURES | fork) {
        Some(vmm) => {
            let error = refused(&server, vmm, "new");
            assert!(matches!(error, Features { .. }), "{error:?}");
        }
        None => untested("an unprivileged user cannot request fork events"),
    }
}

#[test]
fn who_says_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 300, std::slice::from_ref(&(0..300)));
    let server = Server::start(&file, Options { patience: Duration::from_millis(50), ..Options::default() });
    let error = refused(&server, Vmm::start(&[300]), "nothing");
    assert!(matches!(error, Silent { bytes: 0, .. }), "{error:?}");
}

#[test]
fn what_other_versions_say_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 300, std::slice::from_ref(&(0..300)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = Vec::new();
    for what in ["old", "new", "bytes"] {
        let mut vmm = Vmm::start(&[100, 50, 150]);
        vmm.does(&format!("say {} {what}", server.socket().display()));
        assert!(vmm.read_all(300, "shuffled", 2) == wanted, "{what}");
        clones.push(vmm);
    }
    drop(clones);
    assert_eq!(server.ended().clones, 3);
}
