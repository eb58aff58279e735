//! Extended attributes: the users' own. Those of the system (capabilities,
//! labels, access lists) mean something to the host, and are not the guest's.

use std::ffi::CStr;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use crate::answer::{Answer, Outcome};
use crate::inodes::ROOT;
use crate::server::Server;
use crate::wire::Request;

const USERS: &[u8] = b"user.";
/// The kernel's own limits, for one value and for the list.
const MAX_VALUE: usize = 64 * 1024;

impl Server {
    pub(crate) fn extended(&self, mut request: Request<'_>) -> Outcome {
        let (size, _padding) = (request.body.u32()? as usize, request.body.u32()?);
        let name = users(request.body.text()?)?;
        self.refuse_bare_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        let mut value = vec![0; MAX_VALUE];
        let length = self.share.by_full_path(&fd, |path| getxattr(path, name, &mut value[..]))?;
        sized(&value[..length], size)
    }

    pub(crate) fn list_extended(&self, mut request: Request<'_>) -> Outcome {
        let (size, _padding) = (request.body.u32()? as usize, request.body.u32()?);
        self.refuse_bare_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        let mut names = vec![0; MAX_VALUE];
        let length = self.share.by_full_path(&fd, |path| listxattr(path, &mut names[..]))?;
        let shown: Vec<u8> = names[..length]
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| name.starts_with(USERS))
            .flatten()
            .copied()
            .collect();
        sized(&shown, size)
    }

    pub(crate) fn set_extended(&self, mut request: Request<'_>) -> Outcome {
        let (size, flags) = (request.body.u32()? as usize, request.body.u32()?);
        let name = users(request.body.text()?)?;
        let value = request.body.bytes(size)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.refuse_bare_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        self.share.by_full_path(&fd, |path| setxattr(path, name, value, flags))?;
        Ok(Answer::new())
    }

    pub(crate) fn remove_extended(&self, mut request: Request<'_>) -> Outcome {
        let name = users(request.body.text()?)?;
        self.refuse_bare_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        self.share.by_full_path(&fd, |path| removexattr(path, name))?;
        Ok(Answer::new())
    }

    /// The directory of the only file is not the guest's.
    fn refuse_bare_root(&self, node: u64) -> Result<(), Errno> {
        if node == ROOT && self.share.only.is_some() { Err(Errno::OPNOTSUPP) } else { Ok(()) }
    }
}

fn users(name: &CStr) -> Result<&CStr, Errno> {
    if name.to_bytes().starts_with(USERS) { Ok(name) } else { Err(Errno::OPNOTSUPP) }
}

/// The value, or how long it is when the guest has no room for any.
fn sized(value: &[u8], room: usize) -> Outcome {
    match room {
        0 => Ok(Answer::new().u32s([value.len() as u32, 0])),
        room if room < value.len() => Err(Errno::RANGE),
        _ => Ok(Answer::new().bytes(value)),
    }
}
