//! TAP devices.

use std::fs::File;
use std::io;

use crate::fence;

/// The TUN device node: in a jail, its own one.
const TUN: [&str; 2] = ["dev/net/tun", "/dev/net/tun"];

/// Opens a TAP device by its name, in the process's network namespace.
pub(crate) fn open(name: &str) -> Result<File, String> {
    let mut bytes = [0; 16];
    match bytes.get_mut(..name.len()) {
        Some(start) if name.len() < 16 && !name.is_empty() => start.copy_from_slice(name.as_bytes()),
        _ => return Err("Open tap device failed: Invalid interface name".to_owned()),
    }
    let failed = |step: &str, error: io::Error| format!("Open tap device failed: {step}{error}");
    let tun = TUN
        .iter()
        .map(|path| File::options().read(true).write(true).open(path))
        .reduce(|jailed, free| jailed.or(free))
        .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
        .map_err(|error| failed("Couldn't open /dev/net/tun: ", error))?;
    fence::set_interface(&tun, &bytes).map_err(|error| {
        failed("Error while creating ifreq structure: ", error) + &format!(". Invalid TUN/TAP Backend provided by {name}. Check our documentation on setting up the network devices.")
    })?;
    Ok(tun)
}
