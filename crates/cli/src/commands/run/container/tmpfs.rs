//! `--tmpfs`, and the temporary filesystems of `--read-only`.

use mimeo_agent_protocol::message::Tmpfs;

use crate::error::CliError;
use crate::values::clean_path;

/// Where a container with a read-only root may write.
const READ_ONLY_TMPFS: [&str; 3] = ["/run", "/tmp", "/var/tmp"];
/// Mounts that every container has.
const RESERVED: [&str; 4] = ["/", "/proc", "/sys", "/dev"];
/// The options that the guest's tmpfs itself takes, with a value.
const VALUES: [&str; 5] = ["size", "mode", "uid", "gid", "nr_inodes"];

/// Parses `PATH[:OPTIONS]`. The last of several for one path counts.
pub(super) fn parse_all(texts: &[String], read_only: bool) -> Result<Vec<Tmpfs>, CliError> {
    let mut list: Vec<Tmpfs> = Vec::new();
    for text in texts {
        let tmpfs = parse(text)?;
        list.retain(|other| other.target != tmpfs.target);
        list.push(tmpfs);
    }
    for target in READ_ONLY_TMPFS.iter().filter(|_| read_only) {
        if !list.iter().any(|tmpfs| tmpfs.target == *target) {
            list.push(Tmpfs { target: (*target).to_owned(), copy_up: true, ..Tmpfs::default() });
        }
    }
    Ok(list)
}

fn parse(text: &str) -> Result<Tmpfs, CliError> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let invalid = |reason: String| CliError::usage(format!("--tmpfs {text:?} {reason}"));
    if !path.starts_with('/') {
        return Err(invalid("has no absolute path".to_owned()));
    }
    let target = clean_path(path);
    if RESERVED.contains(&target.as_str()) {
        return Err(invalid(format!("cannot replace {target}")));
    }
    let mut tmpfs = Tmpfs { target, copy_up: true, ..Tmpfs::default() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        set_option(&mut tmpfs, option).ok_or_else(|| invalid(format!("has an unknown option {option:?}")))?;
    }
    Ok(tmpfs)
}

fn set_option(tmpfs: &mut Tmpfs, option: &str) -> Option<()> {
    match option {
        "ro" => tmpfs.read_only = true,
        "rw" => tmpfs.read_only = false,
        "exec" => tmpfs.no_exec = false,
        "noexec" => tmpfs.no_exec = true,
        "suid" => tmpfs.suid = true,
        "nosuid" => tmpfs.suid = false,
        "dev" => tmpfs.dev = true,
        "nodev" => tmpfs.dev = false,
        "tmpcopyup" => tmpfs.copy_up = true,
        "notmpcopyup" => tmpfs.copy_up = false,
        // A machine shares no mounts, and every filesystem in it has relatime.
        "private" | "rprivate" | "relatime" => {}
        _ => {
            let (name, value) = option.split_once('=')?;
            let is_value =
                !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%');
            if !VALUES.contains(&name) || !is_value {
                return None;
            }
            if !tmpfs.options.is_empty() {
                tmpfs.options.push(',');
            }
            tmpfs.options.push_str(option);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_podmans() {
        let tmpfs = parse("/x//y/:size=1m,mode=700,rw,noexec,suid").expect("a tmpfs");
        assert_eq!((tmpfs.target.as_str(), tmpfs.options.as_str()), ("/x/y", "size=1m,mode=700"));
        assert!(tmpfs.no_exec && tmpfs.suid && !tmpfs.dev && !tmpfs.read_only && tmpfs.copy_up);
        assert!(!parse("/x:notmpcopyup").expect("a tmpfs").copy_up);
        for bad in ["", "x", "/", "/x/..", "/proc/", "/x:foo", "/x:size=", "/x:size=1,2", "/x:context=a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_read_only_root_has_three() {
        let targets = |texts: &[&str], read_only| -> Vec<String> {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            let list = parse_all(&texts, read_only).expect("tmpfs");
            list.into_iter().map(|tmpfs| tmpfs.target).collect()
        };
        assert_eq!(targets(&["/tmp:size=1m", "/a", "/a"], true), ["/tmp", "/a", "/run", "/var/tmp"]);
        assert_eq!(targets(&[], false), [""; 0]);
    }
}
