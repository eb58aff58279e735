//! Validates an image: finds its root filesystem, and looks at the system in it. Nothing is mounted or run.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use crate::check::Check;
use crate::image::{DiskImage, Format, ImageError};
use crate::manifest::RootFilesystem;
use crate::partition;
use crate::root::{Root, find_root};
use crate::system::{self, System};
use crate::window::Window;

const PARTITION_TABLE: &str = "partition-table";
const ROOT_FILESYSTEM: &str = "root-filesystem";

/// What validation found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format of the image's file.
    pub format: Format,
    /// The disk's size in bytes.
    pub virtual_bytes: u64,
    /// The root filesystem, if there is one.
    pub root: Option<RootFilesystem>,
    /// The system in it; `None` if it cannot be looked into.
    pub system: Option<System>,
    /// All checks. Later ones are left out if an earlier one failed.
    pub checks: Vec<Check>,
}

/// Validates the image in a file. It is read only where that is necessary, whatever its size.
///
/// # Errors
/// If the file cannot be read as a disk image at all. What is wrong in the image is in the report.
pub fn validate(path: &Path) -> Result<Report, ImageError> {
    Ok(validate_image(&Rc::new(RefCell::new(DiskImage::open(path)?))))
}

/// Validates an open image.
pub(crate) fn validate_image(image: &Rc<RefCell<DiskImage>>) -> Report {
    let (format, virtual_bytes) = (image.borrow().format(), image.borrow().bytes());
    let mut report = Report { format, virtual_bytes, root: None, system: None, checks: Vec::new() };
    validate_disk(&Window::whole(image.clone()), &mut report);
    report
}

fn validate_disk(disk: &Window, report: &mut Report) {
    let table = match partition::read(disk) {
        Ok(table) => table,
        Err(error) => {
            let hint = "get the image again, and compare its checksum";
            report.checks.push(Check::error(PARTITION_TABLE, error.to_string(), hint));
            return;
        }
    };
    let detail = match &table {
        Some(table) => format!("{}, {} partitions", table.kind.as_str(), table.partitions.len()),
        None => "none: the disk is one filesystem".to_owned(),
    };
    report.checks.push(Check::ok(PARTITION_TABLE, detail));
    match find_root(disk, table.as_ref()) {
        Root::Tree { root, tree } => {
            let system = System::inspect(&tree);
            report.checks.push(root_check(&root, &tree.take_problems()));
            report.checks.extend(system::checks(&system));
            (report.root, report.system) = (Some(root), Some(system));
        }
        Root::Opaque(root) => {
            let detail = format!("{}: mimeo cannot look inside", root.describe());
            let hint = "use an image with ext4, or see for yourself that it has cloud-init and an init";
            report.checks.push(Check::warning(ROOT_FILESYSTEM, detail, hint));
            report.root = Some(root);
        }
        Root::Missing(detail) => {
            let hint = "mimeo needs a filesystem with /etc/os-release and /sbin/init in it";
            report.checks.push(Check::error(ROOT_FILESYSTEM, detail, hint));
        }
    }
}

fn root_check(root: &RootFilesystem, problems: &[String]) -> Check {
    match problems {
        [] => Check::ok(ROOT_FILESYSTEM, root.describe()),
        [first, ..] => {
            let detail =
                format!("{}, of which {} files cannot be read: {first}", root.describe(), problems.len());
            Check::warning(
                ROOT_FILESYSTEM,
                detail,
                "repair the filesystem with `e2fsck`, or get the image again",
            )
        }
    }
}
