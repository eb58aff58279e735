//! Commands about locks of the C library, and about threads that start and exit.

use std::cell::UnsafeCell;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

struct Shared<T>(UnsafeCell<T>);

// SAFETY: only the C library's calls use them, which are thread-safe.
unsafe impl<T> Sync for Shared<T> {}

static RWLOCK: Shared<libc::pthread_rwlock_t> = Shared(UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER));
static CONTENDED: Shared<libc::pthread_mutex_t> =
    Shared(UnsafeCell::new(libc::PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP));

pub(super) fn run_command(command: &str) -> String {
    let (command, argument) = command.split_once(' ').unwrap_or((command, ""));
    match command {
        // SAFETY: the lock lives as long as the process.
        "wrlock" => unsafe { libc::pthread_rwlock_wrlock(RWLOCK.0.get()) }.to_string(),
        // SAFETY: as above.
        "wrunlock" => unsafe { libc::pthread_rwlock_unlock(RWLOCK.0.get()) }.to_string(),
        // SAFETY: as above.
        "trywrlock" => unsafe { libc::pthread_rwlock_trywrlock(RWLOCK.0.get()) }.to_string(),
        "lock-kernel-mutex" => lock_kernel_mutex(argument),
        "lock-often" => {
            std::thread::spawn(lock_often);
            "done".to_owned()
        }
        "churn" => {
            (0..4).for_each(|_| drop(std::thread::spawn(churn)));
            "done".to_owned()
        }
        "linger" => linger(),
        "release" => {
            RELEASED.store(true, Ordering::SeqCst);
            super::wait_until(|| is_zombie(argument));
            "done".to_owned()
        }
        other => panic!("unknown command: {other}"),
    }
}

/// Locks a robust or priority-inheriting mutex, and never unlocks it.
fn lock_kernel_mutex(kind: &str) -> String {
    // SAFETY: the mutex is given memory that is never freed.
    let locked = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        match kind {
            "robust" => libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST),
            _ => libc::pthread_mutexattr_setprotocol(&raw mut attributes, libc::PTHREAD_PRIO_INHERIT),
        };
        let mutex = Box::leak(Box::new(std::mem::zeroed::<libc::pthread_mutex_t>()));
        libc::pthread_mutex_init(mutex, &raw const attributes);
        libc::pthread_mutex_lock(mutex)
    };
    if locked == 0 { "done" } else { "refused" }.to_owned()
}

/// Holds a mutex for a third of the time.
fn lock_often() {
    loop {
        // SAFETY: the lock lives as long as the process.
        unsafe { libc::pthread_mutex_lock(CONTENDED.0.get()) };
        std::thread::sleep(Duration::from_micros(300));
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_unlock(CONTENDED.0.get()) };
        std::thread::sleep(Duration::from_micros(600));
    }
}

static RELEASED: AtomicBool = AtomicBool::new(false);

/// Starts a thread that exits when it is released, and gives its id.
fn linger() -> String {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        sender.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        super::wait_until(|| RELEASED.load(Ordering::SeqCst));
    });
    receiver.recv().unwrap().to_string()
}

fn is_zombie(tid: &str) -> bool {
    fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap().contains(") Z ")
}

/// Starts threads that exit at once.
fn churn() {
    loop {
        std::thread::spawn(|| ()).join().unwrap();
    }
}
