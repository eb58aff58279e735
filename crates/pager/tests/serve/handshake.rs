//! Handshakes, and refusals: a refused client is killed, and the server continues.

use std::time::Duration;

use mimeo_pager::PAGE;
use mimeo_pager::fake::{ALL_FEATURES, FEATURES};
use mimeo_pager::page_server::HandshakeError::{self, *};
use mimeo_pager::page_server::{ExitReason, Options};

use crate::server::{Server, report_untested, write_memory};
use crate::vmm::Vmm;

/// Sends a message, and returns why it was refused.
fn refusal(server: &Server, mut vmm: Vmm, message: &str) -> HandshakeError {
    vmm.send(&format!("say {} {message}", server.socket().display()));
    let exit = server.next_exit();
    assert_eq!(exit.pid, vmm.pid(), "{message}");
    while vmm.next_reply().is_some() {}
    assert!(!vmm.wait().success(), "{message}");
    match exit.reason {
        ExitReason::Refused(error) => error,
        reason => panic!("{message}: {reason:?}"),
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
        ("half", |error| matches!(error, Truncated { bytes: 1.. })),
        ("words", |error| matches!(error, Malformed(_))),
        ("object", |error| matches!(error, Malformed(_))),
        ("more", |error| matches!(error, Malformed(_))),
        ("long", |error| matches!(error, TooLong { .. })),
        ("bare", |error| matches!(error, NoDescriptor)),
        ("two", |error| matches!(error, TooManyDescriptors)),
        ("many", |error| matches!(error, TooManyDescriptors)),
        ("file", |error| matches!(error, NotUserfaultfd { name } if name == "/dev/null")),
        ("none", |error| matches!(error, NoRegions)),
        ("crowd", |error| matches!(error, TooManyRegions { count: 1025, .. })),
        ("empty", |error| matches!(error, Region { size: 0, .. })),
        ("odd", |error| matches!(error, Region { size: 4097, .. })),
        ("page", |error| matches!(error, PageSize { bytes: 8192 })),
        ("beyond", |error| matches!(error, OutOfBounds { .. })),
        ("addresses", |error| matches!(error, Overlap { .. })),
        ("offsets", |error| matches!(error, Overlap { .. })),
        ("half", |error| matches!(error, Truncated { bytes: 1.. })),
        ("file", |error| matches!(error, NotUserfaultfd { .. })),
    ];
    for (message, matches_error) in cases {
        let error = refusal(&server, Vmm::start(&[100, 200]), message);
        assert!(matches_error(&error), "{message}: {error:?}");
    }
    let mut vmm = Vmm::start_served(&[100, 200], &server.socket());
    assert!(vmm.read_all(300, "shuffled", 2) == expected);
    vmm.kill();
    let counters = server.wait();
    assert_eq!((counters.clones, counters.refused), (1, 19));
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
    let server =
        Server::start(&file, Options { handshake_timeout: Duration::from_millis(50), ..Options::default() });
    let error = refusal(&server, Vmm::start(&[300]), "nothing");
    assert!(matches!(error, Timeout { bytes: 0, .. }), "{error:?}");
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
