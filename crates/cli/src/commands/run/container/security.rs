//! `--security-opt`.

use crate::error::CliError;

/// Whether the options request no-new-privileges. Options that a machine cannot honour are refused.
pub(super) fn no_new_privileges(options: &[String]) -> Result<bool, CliError> {
    let mut requested = false;
    for option in options {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => requested = true,
            ("no-new-privileges", "false") => requested = false,
            // Nothing of the kind confines a machine's processes: the guest has a kernel of its own.
            ("label", "disable") | ("seccomp" | "apparmor", "unconfined") => {}
            _ => return Err(refuse(option, name)),
        }
    }
    Ok(requested)
}

fn refuse(option: &str, name: &str) -> CliError {
    let reason = match name {
        "no-new-privileges" => "its value is true or false",
        "label" => "the guest's kernel has no SELinux: only label=disable is possible",
        "seccomp" => {
            "the guest has a kernel of its own, and mimeo installs no filters there: only seccomp=unconfined is possible"
        }
        "apparmor" => "the guest has no AppArmor profiles: only apparmor=unconfined is possible",
        "mask" | "unmask" | "proc-opts" => "the paths are fixed: --privileged masks none",
        _ => "it is unknown",
    };
    CliError::usage(format!("cannot apply --security-opt {option:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Option<bool> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        no_new_privileges(&options).ok()
    }

    #[test]
    fn options_without_effect_are_accepted_and_others_refused() {
        assert_eq!(parsed(&["no-new-privileges"]), Some(true));
        assert_eq!(parsed(&["no-new-privileges:true", "seccomp=unconfined", "label=disable"]), Some(true));
        assert_eq!(parsed(&["no-new-privileges=false", "apparmor=unconfined"]), Some(false));
        for bad in ["", "foo=bar", "seccomp=/p.json", "apparmor=x", "label=type:y", "no-new-privileges=maybe"]
        {
            assert_eq!(parsed(&[bad]), None, "{bad}");
        }
    }
}
