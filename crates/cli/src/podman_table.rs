//! Asserts that docs/reference/podman.md says what the command line does.

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::arguments::Arguments;
use crate::refused_commands::REFUSED;

const TABLE: &str = include_str!("../../../docs/reference/podman.md");

/// The options of `podman run --help`, podman 4.3.
const RUN_OPTIONS: &[&str] = &[
    "add-host",
    "annotation",
    "arch",
    "attach",
    "authfile",
    "blkio-weight",
    "blkio-weight-device",
    "cap-add",
    "cap-drop",
    "cgroup-conf",
    "cgroup-parent",
    "cgroupns",
    "cgroups",
    "chrootdirs",
    "cidfile",
    "conmon-pidfile",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "detach",
    "detach-keys",
    "device",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "disable-content-trust",
    "dns",
    "dns-option",
    "dns-search",
    "entrypoint",
    "env",
    "env-file",
    "env-host",
    "env-merge",
    "expose",
    "gidmap",
    "group-add",
    "health-cmd",
    "health-interval",
    "health-on-failure",
    "health-retries",
    "health-start-period",
    "health-timeout",
    "hostname",
    "hostuser",
    "http-proxy",
    "image-volume",
    "init",
    "init-path",
    "interactive",
    "ip",
    "ip6",
    "ipc",
    "label",
    "label-file",
    "log-driver",
    "log-opt",
    "mac-address",
    "memory",
    "memory-reservation",
    "memory-swap",
    "memory-swappiness",
    "mount",
    "name",
    "network",
    "network-alias",
    "no-healthcheck",
    "no-hosts",
    "oom-kill-disable",
    "oom-score-adj",
    "os",
    "passwd",
    "passwd-entry",
    "personality",
    "pid",
    "pidfile",
    "pids-limit",
    "platform",
    "pod",
    "pod-id-file",
    "preserve-fds",
    "privileged",
    "publish",
    "publish-all",
    "pull",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "requires",
    "restart",
    "rm",
    "rmi",
    "rootfs",
    "sdnotify",
    "seccomp-policy",
    "secret",
    "security-opt",
    "shm-size",
    "sig-proxy",
    "stop-signal",
    "stop-timeout",
    "subgidname",
    "subuidname",
    "sysctl",
    "systemd",
    "timeout",
    "tls-verify",
    "tmpfs",
    "tty",
    "tz",
    "uidmap",
    "ulimit",
    "umask",
    "unsetenv",
    "unsetenv-all",
    "user",
    "userns",
    "uts",
    "variant",
    "volume",
    "volumes-from",
    "workdir",
];

/// podman 4.3's commands.
const COMMANDS: &[&str] = &[
    "attach",
    "auto-update",
    "build",
    "commit",
    "container attach",
    "container checkpoint",
    "container cleanup",
    "container clone",
    "container commit",
    "container cp",
    "container create",
    "container diff",
    "container exec",
    "container exists",
    "container export",
    "container init",
    "container inspect",
    "container kill",
    "container list",
    "container logs",
    "container mount",
    "container pause",
    "container port",
    "container prune",
    "container ps",
    "container rename",
    "container restart",
    "container restore",
    "container rm",
    "container run",
    "container runlabel",
    "container start",
    "container stats",
    "container stop",
    "container top",
    "container unmount",
    "container unpause",
    "container update",
    "container wait",
    "cp",
    "create",
    "diff",
    "events",
    "exec",
    "export",
    "generate kube",
    "generate spec",
    "generate systemd",
    "healthcheck run",
    "history",
    "image build",
    "image diff",
    "image exists",
    "image history",
    "image import",
    "image inspect",
    "image list",
    "image load",
    "image mount",
    "image prune",
    "image pull",
    "image push",
    "image rm",
    "image save",
    "image scp",
    "image search",
    "image sign",
    "image tag",
    "image tree",
    "image trust",
    "image unmount",
    "image untag",
    "images",
    "import",
    "info",
    "init",
    "inspect",
    "kill",
    "kube down",
    "kube generate",
    "kube play",
    "load",
    "login",
    "logout",
    "logs",
    "machine info",
    "machine init",
    "machine inspect",
    "machine list",
    "machine rm",
    "machine set",
    "machine ssh",
    "machine start",
    "machine stop",
    "manifest add",
    "manifest annotate",
    "manifest create",
    "manifest exists",
    "manifest inspect",
    "manifest push",
    "manifest remove",
    "manifest rm",
    "mount",
    "network connect",
    "network create",
    "network disconnect",
    "network exists",
    "network inspect",
    "network ls",
    "network prune",
    "network reload",
    "network rm",
    "pause",
    "pod clone",
    "pod create",
    "pod exists",
    "pod inspect",
    "pod kill",
    "pod logs",
    "pod pause",
    "pod prune",
    "pod ps",
    "pod restart",
    "pod rm",
    "pod start",
    "pod stats",
    "pod stop",
    "pod top",
    "pod unpause",
    "port",
    "ps",
    "pull",
    "push",
    "rename",
    "restart",
    "rm",
    "rmi",
    "run",
    "save",
    "search",
    "secret create",
    "secret inspect",
    "secret ls",
    "secret rm",
    "start",
    "stats",
    "stop",
    "system connection",
    "system df",
    "system info",
    "system migrate",
    "system prune",
    "system renumber",
    "system reset",
    "system service",
    "tag",
    "top",
    "unmount",
    "unpause",
    "unshare",
    "untag",
    "update",
    "version",
    "volume create",
    "volume exists",
    "volume export",
    "volume import",
    "volume inspect",
    "volume ls",
    "volume mount",
    "volume prune",
    "volume reload",
    "volume rm",
    "volume unmount",
    "wait",
];

/// The rows of the section: a name, and what the table says of it.
fn rows(section: &str) -> Vec<(&'static str, &'static str)> {
    let text = TABLE.split("\n## ").find(|text| text.starts_with(section)).expect("a section");
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    cells.map(|(name, rest)| (name, rest.split(" |").next().unwrap_or_default())).collect()
}

fn says(rows: &[(&str, &'static str)], name: &str) -> &'static str {
    let found: Vec<_> = rows.iter().filter(|(row, _)| *row == name).collect();
    assert_eq!(found.len(), 1, "{name} has {} rows in docs/reference/podman.md", found.len());
    found[0].1
}

/// What `run` does with an option.
fn option(name: &str) -> &'static str {
    let mut command = Arguments::command();
    let run = command.find_subcommand_mut("run").expect("run");
    // Its arguments are deferred until then.
    run.build();
    let known = run.get_arguments().any(|argument| {
        argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|all| all.contains(&name))
    });
    match known {
        true if is_refused(name) => "refused",
        true => "known",
        false => "not yet",
    }
}

/// Whether the option is refused with a value that no table accepts.
fn is_refused(name: &str) -> bool {
    let command = clap::Command::new("run");
    let command = <crate::commands::run::RefusedOptions as clap::Args>::augment_args(command);
    let option = format!("--{name}=none-such");
    let Ok(matches) = command.try_get_matches_from(["run", &option]) else { return false };
    crate::commands::run::RefusedOptions::from_arg_matches(&matches).is_ok_and(|found| found.check().is_err())
}

#[test]
fn no_two_arguments_of_a_command_conflict() {
    Arguments::command().debug_assert();
}

#[test]
fn every_option_of_run_does_what_the_table_says() {
    let rows = rows("Options of `run`");
    for name in RUN_OPTIONS {
        let expected = match says(&rows, &format!("--{name}")) {
            "same" | "different" => "known",
            other => other,
        };
        assert_eq!(option(name), expected, "--{name}");
    }
    assert_eq!(rows.len(), RUN_OPTIONS.len());
}

#[test]
fn every_command_does_what_the_table_says() {
    let rows = rows("Commands");
    let command = Arguments::command();
    for name in COMMANDS {
        let group = name.split(' ').next().unwrap_or_default();
        let refused = REFUSED.iter().any(|(refused, _)| refused == name || *refused == group);
        let known =
            name.split(' ').try_fold(&command, |command, word| command.find_subcommand(word)).is_some();
        let row = if rows.iter().any(|(row, _)| row == name) { name } else { group };
        let expected = match says(&rows, row) {
            "same" | "different" => (true, false),
            "refused" => (false, true),
            _ => (false, false),
        };
        assert_eq!((known, refused), expected, "{name}: known, refused");
    }
}

#[test]
fn options_that_ask_for_what_a_machine_does_anyway_are_accepted() {
    for accepted in [
        "--pid=private",
        "--oom-kill-disable=false",
        "--sig-proxy",
        "--sig-proxy=true",
        "--cgroupns=private",
        "--systemd=true",
    ] {
        let parsed = Arguments::try_parse_from(["mimeo", "run", accepted, "image"]);
        assert!(parsed.is_ok(), "{accepted}: {parsed:?}");
    }
    for refused in ["pid", "userns", "cpu-shares", "device", "oom-kill-disable", "pod", "gpus"] {
        assert!(is_refused(refused), "--{refused}");
    }
}

#[test]
fn options_after_the_image_belong_to_the_command() {
    for words in [
        &["run", "image", "-c", "--version", "-e", "--cpu-shares=2", "--", "-h"][..],
        &["exec", "web", "-l", "--pid", "5"],
        &["exec", "--latest", "ls", "-l", "-e"],
    ] {
        let parsed = Arguments::try_parse_from(["mimeo"].iter().chain(words));
        let debug = format!("{parsed:?}");
        let last = words.iter().skip(2).find(|word| !word.starts_with("--l")).map(|word| format!("{word:?}"));
        assert!(parsed.is_ok() && debug.contains(&last.unwrap_or_default()), "{words:?}: {debug}");
        assert!(!debug.contains("cannot use"), "{debug}");
    }
    for bad in [&["run"][..], &["run", "--frob", "image"], &["exec"]] {
        assert!(Arguments::try_parse_from(["mimeo"].iter().chain(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn refused_commands_name_their_reason() {
    for words in [
        &["pod", "ps"][..],
        &["podman", "kube", "play"],
        &["image", "sign", "x"],
        &["--log-level", "info", "machine"],
    ] {
        let arguments: Vec<_> = words.iter().map(ToString::to_string).collect();
        let error = Arguments::try_parse_from(["mimeo"].iter().chain(words)).expect_err("refused");
        let reason = crate::refused_commands::reason(&error, &arguments);
        assert!(reason.is_some_and(|reason| reason.starts_with("cannot run `mimeo ")), "{words:?}");
    }
    let error = Arguments::try_parse_from(["mimeo", "frobnicate"]).expect_err("unknown");
    assert_eq!(crate::refused_commands::reason(&error, &["frobnicate".to_owned()]), None);
}
