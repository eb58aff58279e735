//! Handshakes, and refusals: a refused client is killed, and the server continues.

use std::time::Duration;

use mimeo_pager::PAGE;
use mimeo_pager::fake::{ALL_FEATURES, FEATURES};
use mimeo_pager::serve::HandshakeError::{self, *};
use mimeo_pager::serve::{End, Options};

use crate::server::{Server, report_untested, write_memory};
use crate::vmm::Vmm;

/// Sends a message, and returns why it was refused.
fn refusal(server: &Server, mut vmm: Vmm, message: &str) -> HandshakeError {
    vmm.send(&format!("say {} {message}", server.socket().display()));
    let exit = server.next_exit();
    assert_eq!(exit.pid, vmm.pid(), "{message}");
    while vmm.next_reply().is_some() {}
    assert!(!vmm.wait().success(), "{message}");
    match exit.end {
        End::Refused(error) => error,
        end => panic!("{message}: {end:?}"),
    }
}

/// Whether an error is the expected one.
type Matches = fn(&HandshakeError) -> bool;

#[test]
fn invalid_handshakes_are_refused_and_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 300, std::slice::from_ref(&(0..300)));
    let mut server = Server::start(&file, Options::default());
    let cases: [(&str, Matches); 19] = [
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
    for (message, matches_error) in cases {
        let error = refusal(&server, Vmm::start(&[100, 200]), message);
        assert!(matches_error(&error), "{message}: {error:?}");
    }
    let mut vmm = Vmm::start_served(&[100, 200], &server.socket());
    assert!(vmm.read_all(300, "shuffled", 2) == expected);
    vmm.kill();
    let figures = server.wait();
    assert_eq!((figures.clones, figures.refused), (1, 19));
}

#[test]
fn unsupported_features_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 300, std::slice::from_ref(&(0..300)));
    let server = Server::start(&file, Options::default());
    for features in [0, ALL_FEATURES & !FEATURES] {
        let error = refusal(&server, Vmm::with_features(&[300], PAGE, features), "new");
        assert!(matches!(error, Features { .. }), "{error:?}");
    }
    let fork = 1 << 1;
    match Vmm::try_with_features(&[300], PAGE, FEATURES | fork) {
        Some(vmm) => {
            let error = refusal(&server, vmm, "new");
            assert!(matches!(error, Features { .. }), "{error:?}");
        }
        None => report_untested("an unprivileged user cannot request fork events"),
    }
}

#[test]
fn a_silent_client_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 300, std::slice::from_ref(&(0..300)));
    let server = Server::start(&file, Options { patience: Duration::from_millis(50), ..Options::default() });
    let error = refusal(&server, Vmm::start(&[300]), "nothing");
    assert!(matches!(error, Silent { bytes: 0, .. }), "{error:?}");
}

#[test]
fn handshakes_of_other_versions_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 300, std::slice::from_ref(&(0..300)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = Vec::new();
    for message in ["old", "new", "bytes"] {
        let mut vmm = Vmm::start(&[100, 50, 150]);
        vmm.run(&format!("say {} {message}", server.socket().display()));
        assert!(vmm.read_all(300, "shuffled", 2) == expected, "{message}");
        clones.push(vmm);
    }
    drop(clones);
    assert_eq!(server.wait().clones, 3);
}
