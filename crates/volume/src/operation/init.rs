//! `INIT` and `DESTROY`: the first and the last request.

use rustix::io::Errno;

use crate::limits::MAX_TRANSFER;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

const MAJOR: u32 = 7;
/// The minor version of the protocol that this server implements.
const MINOR: u32 = 38;
/// The oldest minor version with the same message layouts.
const OLDEST_MINOR: u32 = 31;
const PAGE: usize = 4096;
/// Background requests that the guest's kernel may have in flight. It holds further ones back, and sends later
/// requests before them: a lock request would overtake the `RELEASE` that frees its lock.
const MAX_BACKGROUND: u16 = u16::MAX;
/// The number of background requests from which the kernel reads no further ahead.
const CONGESTION_THRESHOLD: u16 = 12;

const ASYNC_READ: u32 = 1 << 0;
const ATOMIC_O_TRUNC: u32 = 1 << 3;
const BIG_WRITES: u32 = 1 << 5;
/// The guest drops a file's cached content when its time or size changed.
const AUTO_INVAL_DATA: u32 = 1 << 12;
const DO_READDIRPLUS: u32 = 1 << 13;
const READDIRPLUS_AUTO: u32 = 1 << 14;
/// `flock` locks are sent to this server. Record locks are not: the guest handles those itself.
const FLOCK_LOCKS: u32 = 1 << 10;
const ASYNC_DIO: u32 = 1 << 15;
const PARALLEL_DIROPS: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
/// This server clears the set-user-id bits of a file that is written, which
/// saves the guest a request before each write.
const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
const SUPPORTED_FLAGS: u32 = ASYNC_READ
    | ATOMIC_O_TRUNC
    | BIG_WRITES
    | FLOCK_LOCKS
    | AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | ASYNC_DIO
    | PARALLEL_DIROPS
    | MAX_PAGES
    | HANDLE_KILLPRIV_V2;

impl Server {
    pub(crate) fn init(mut request: Request<'_>) -> Outcome {
        let (major, minor) = (request.body.u32()?, request.body.u32()?);
        let (read_ahead, flags) = (request.body.u32()?, request.body.u32()?);
        if major < MAJOR || (major == MAJOR && minor < OLDEST_MINOR) {
            return Err(Errno::PROTO);
        }
        let one_nanosecond = 1;
        Ok(FuseReply::new()
            .u32s([MAJOR, MINOR, read_ahead, flags & SUPPORTED_FLAGS])
            .u16s([MAX_BACKGROUND, CONGESTION_THRESHOLD])
            .u32s([MAX_TRANSFER as u32, one_nanosecond])
            .u16s([(MAX_TRANSFER / PAGE) as u16, 0])
            .u32s([0; 8]))
    }

    pub(crate) fn destroy(&self) -> Outcome {
        self.handles.close_all();
        self.locks.end_all();
        self.inodes.forget_all();
        Ok(FuseReply::new())
    }
}
