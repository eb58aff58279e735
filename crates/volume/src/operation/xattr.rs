//! Extended attributes of the `user.` namespace. Those of the system
//! (capabilities, labels, ACLs) have a meaning on the host, so the guest has no
//! access to them.

use std::ffi::CStr;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use crate::inodes::ROOT;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

const USER_PREFIX: &[u8] = b"user.";
/// The kernel's own limit, for one value and for the list of names.
const MAX_VALUE: usize = 64 * 1024;

impl Server {
    pub(crate) fn get_xattr(&self, mut request: Request<'_>) -> Outcome {
        let (size, _padding) = (request.body.u32()? as usize, request.body.u32()?);
        let name = check_user_name(request.body.string()?)?;
        self.refuse_single_file_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        let mut value = vec![0; MAX_VALUE];
        let length = self.share.with_full_proc_path(&fd, |path| getxattr(path, name, &mut value[..]))?;
        sized_reply(&value[..length], size)
    }

    pub(crate) fn list_xattr(&self, mut request: Request<'_>) -> Outcome {
        let (size, _padding) = (request.body.u32()? as usize, request.body.u32()?);
        self.refuse_single_file_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        let mut names = vec![0; MAX_VALUE];
        let length = self.share.with_full_proc_path(&fd, |path| listxattr(path, &mut names[..]))?;
        let visible: Vec<u8> = names[..length]
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| name.starts_with(USER_PREFIX))
            .flatten()
            .copied()
            .collect();
        sized_reply(&visible, size)
    }

    pub(crate) fn set_xattr(&self, mut request: Request<'_>) -> Outcome {
        let (size, flags) = (request.body.u32()? as usize, request.body.u32()?);
        let name = check_user_name(request.body.string()?)?;
        let value = request.body.bytes(size)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.refuse_single_file_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        self.share.with_full_proc_path(&fd, |path| setxattr(path, name, value, flags))?;
        Ok(FuseReply::new())
    }

    pub(crate) fn remove_xattr(&self, mut request: Request<'_>) -> Outcome {
        let name = check_user_name(request.body.string()?)?;
        self.refuse_single_file_root(request.node)?;
        let fd = self.inodes.fd(request.node)?;
        self.share.with_full_proc_path(&fd, |path| removexattr(path, name))?;
        Ok(FuseReply::new())
    }

    /// Refuses access to the directory that contains the only shared file.
    fn refuse_single_file_root(&self, node: u64) -> Result<(), Errno> {
        if node == ROOT && self.share.single_file.is_some() { Err(Errno::OPNOTSUPP) } else { Ok(()) }
    }
}

fn check_user_name(name: &CStr) -> Result<&CStr, Errno> {
    if name.to_bytes().starts_with(USER_PREFIX) { Ok(name) } else { Err(Errno::OPNOTSUPP) }
}

/// Replies with the value, or with its length if `capacity` is 0.
fn sized_reply(value: &[u8], capacity: usize) -> Outcome {
    match capacity {
        0 => Ok(FuseReply::new().u32s([value.len() as u32, 0])),
        capacity if capacity < value.len() => Err(Errno::RANGE),
        _ => Ok(FuseReply::new().bytes(value)),
    }
}
