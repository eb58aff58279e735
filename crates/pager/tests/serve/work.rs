//! Threads that each read, write and remove their own pages, in their own order.

use std::thread;

use mimeo_pager::PAGE;
use mimeo_pager::fake::Guest;

const STEPS: u64 = 3000;

/// Runs the threads, each on its own pages, and compares what they read with the expected content. The
/// threads' pages are interleaved, so that faults of one install pages of others.
pub(crate) fn run(guest: &Guest, memory: &[u8], threads: u64) {
    thread::scope(|scope| {
        for number in 0..threads {
            scope.spawn(move || run_thread(guest, memory, number, threads));
        }
    });
}

fn run_thread(guest: &Guest, memory: &[u8], number: u64, threads: u64) {
    let pages = memory.len() as u64 / PAGE / threads;
    let mut written: Vec<_> = (0..pages).map(|_| None).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15 ^ number;
    for _ in 0..STEPS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (action, own) = (random >> 61, (random >> 33) % pages);
        let page = own * threads + number;
        match action {
            0 => {
                guest.remove(page..page + 1).unwrap();
                written[own as usize] = Some(0);
            }
            1 => {
                let byte = (random >> 40) as u8;
                guest.write(page, byte);
                written[own as usize] = Some(byte);
            }
            _ => {
                let bytes = (page * PAGE) as usize..((page + 1) * PAGE) as usize;
                let expected =
                    written[own as usize].map_or(memory[bytes].to_vec(), |byte| vec![byte; PAGE as usize]);
                assert!(guest.read(page) == expected, "page {page} of thread {number}");
            }
        }
    }
}
