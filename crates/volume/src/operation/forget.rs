//! `FORGET` and `BATCH_FORGET`: the guest's kernel drops inodes. There is no reply.

use rustix::io::Errno;

use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn forget(&self, mut request: Request<'_>) -> Option<Vec<u8>> {
        if let Ok(times) = request.body.u64() {
            self.inodes.forget(request.node, times);
        }
        None
    }

    pub(crate) fn forget_batch(&self, request: Request<'_>) -> Option<Vec<u8>> {
        // A list that is shorter than its count is processed up to its end.
        self.forget_each(request).ok();
        None
    }

    fn forget_each(&self, mut request: Request<'_>) -> Result<(), Errno> {
        let count = request.body.u32()?;
        let _unused = request.body.u32()?;
        for _ in 0..count {
            let (node, times) = (request.body.u64()?, request.body.u64()?);
            self.inodes.forget(node, times);
        }
        Ok(())
    }
}
