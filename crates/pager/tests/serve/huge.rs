//! Huge pages, if the host has or allows some.

use std::fs;

use mimeo_pager::PAGE;
use mimeo_pager::fake::{FEATURES, HUGE_PAGE};
use mimeo_pager::page_server::Options;

use crate::server::{Server, report_untested, write_memory};
use crate::vmm::Vmm;

const SURPLUS: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";
/// Pages of 4 KiB in a huge page.
const SMALL: u64 = HUGE_PAGE / PAGE;

/// The host's limit of surplus huge pages, raised while this lives.
struct Surplus(String);

impl Surplus {
    fn allow(pages: u64) -> Option<Self> {
        let before = fs::read_to_string(SURPLUS).ok()?.trim().to_owned();
        fs::write(SURPLUS, pages.to_string()).ok()?;
        Some(Self(before))
    }
}

impl Drop for Surplus {
    fn drop(&mut self) {
        fs::write(SURPLUS, &self.0).ok();
    }
}

#[test]
fn huge_pages_are_installed_whole() {
    let Some(_surplus) = Surplus::allow(32) else {
        return report_untested("huge pages: only root may allow surplus ones");
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    // One huge page is full of data, one has some, and two have none.
    let mut expected =
        write_memory(&file, 5 * SMALL, &[0..SMALL, SMALL + 9..SMALL + 11, 4 * SMALL..5 * SMALL]);
    let prefetch = [2..3, 4 * SMALL..4 * SMALL + 1].into_iter().collect();
    let mut server = Server::start(&file, Options { prefetch, ..Options::default() });
    let Some(mut vmm) = Vmm::try_with_features(&[3 * SMALL, 2 * SMALL], HUGE_PAGE, FEATURES) else {
        return report_untested("huge pages: this host has none left");
    };
    vmm.hand_over(&server.socket());
    server.until(|counters| counters.prefetched == 2 * SMALL);
    vmm.run(&format!("write {} {} 3", SMALL, SMALL + 1));
    vmm.run(&format!("remove {} {}", 4 * SMALL, 5 * SMALL));
    expected[HUGE_PAGE as usize..(HUGE_PAGE + PAGE) as usize].fill(3);
    expected[4 * HUGE_PAGE as usize..].fill(0);
    assert!(vmm.read_all(5 * SMALL, "shuffled", 3) == expected);
    vmm.kill();
    let counters = server.wait();
    assert_eq!((counters.failed, counters.removed), (0, SMALL));
}
