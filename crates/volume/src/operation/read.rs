//! `READ` and `LSEEK`.

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread};

use crate::limits::MAX_TRANSFER;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

impl Server {
    pub(crate) fn read(&self, mut request: Request<'_>) -> Outcome {
        let (handle, offset) = (request.body.u64()?, request.body.u64()?);
        let size = request.body.u32()? as usize;
        // A shorter read would mean that the file ends there.
        if size > MAX_TRANSFER {
            return Err(Errno::INVAL);
        }
        let handle = self.handles.get(handle)?;
        let file = handle.file()?;
        FuseReply::with_buffer(size, |buffer| pread(file, buffer, offset))
    }

    /// Finds the start of data or of a hole. The guest handles other kinds of seek itself.
    pub(crate) fn seek(&self, mut request: Request<'_>) -> Outcome {
        let (handle, offset) = (request.body.u64()?, request.body.u64()?);
        let to = match request.body.u32()? {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let position = seek(self.handles.get(handle)?.file()?, to)?;
        Ok(FuseReply::new().u64s([position]))
    }
}
