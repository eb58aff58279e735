//! Runs each command and option that docs/reference/podman.md calls "same" on podman and on mimeo, and compares exit codes
//! and output.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{Image, User, World};

/// Rows of the table, and the lines that compare them. `{i}` is an image, `{d}` a directory for files, `{f}` a file. A
/// line of `create` or `run` gets the options that podman needs on a host like this.
const SCENARIOS: &[(&[&str], &[&str])] = &[
    (
        &["cp", "container cp"],
        &[
            "create --name a {i} cat /f /d/file",
            "cp {f} a:/f",
            "cp {d} a:/d",
            "start -a a",
            "cp a:/none {d}/x",
            "cp none:/f {d}/x",
        ],
    ),
    (
        &["create", "container create", "start", "container start"],
        &[
            "create --name a {i} sh -c 'echo out; exit 4'",
            "start a",
            "wait a",
            "start -a a",
            "start none",
            "create --name a {i}",
            "create {i} /no/such/program",
        ],
    ),
    (
        &["exec", "container exec"],
        &[
            "run -d --name a {i} sleep 1000",
            "exec a echo hello",
            "exec a sh -c 'exit 5'",
            "exec a /no/such/program",
            "exec -e A=1 -w /tmp a sh -c 'echo $A; pwd'",
            "exec none true",
        ],
    ),
    (&["container exists"], &["create --name a {i}", "container exists a", "container exists none"]),
    (
        &["kill", "container kill"],
        &[
            "run -d --name a {i} sleep 1000",
            "kill -s NOSUCH a",
            "kill -s KILL a",
            "wait a",
            "kill a",
            "kill none",
        ],
    ),
    (
        &["container list", "container ps"],
        &["create --name a {i}", "container list -a --format '{{.Names}}'", "container ps -q"],
    ),
    (
        &["logs", "container logs"],
        &[
            "run --name a {i} sh -c 'echo one; echo two; echo three'",
            "logs a",
            "logs --tail 1 a",
            "logs --tail -1 a",
            "logs none",
        ],
    ),
    (
        &["pause", "container pause", "unpause", "container unpause"],
        &[
            "run -d --name a {i} sleep 1000",
            "pause a",
            "ps -a --format '{{.Names}}'",
            "exec a true",
            "unpause a",
            "exec a echo awake",
            "unpause a",
            "pause none",
        ],
    ),
    (&["port", "container port"], &["create --name a -p 127.0.0.1:18099:80 {i}", "port none"]),
    (
        &["container prune"],
        &["create --name a {i}", "container prune -f --filter label=none", "ps -a --format '{{.Names}}'"],
    ),
    (
        &["rename", "container rename"],
        &[
            "create --name a {i}",
            "create --name b {i}",
            "rename a c",
            "rename b c",
            "rename none d",
            "ps -a --sort names --format '{{.Names}}'",
        ],
    ),
    (
        &["restart", "container restart"],
        &[
            "run -d --name a {i} sh -c 'echo up; sleep 1000'",
            "restart -t 0 a",
            "exec a echo runs",
            "restart none",
        ],
    ),
    (
        &["rm", "container rm"],
        &["run -d --name a {i} sleep 1000", "rm a", "rm -f a", "rm a", "rm -f none", "rm -i none"],
    ),
    (
        &["stop", "container stop", "wait", "container wait", "--stop-signal", "--stop-timeout"],
        &[
            "run -d --stop-signal USR1 --stop-timeout 60 --name a {i} sh -c 'trap \"exit 7\" USR1; while :; do sleep 0.1; done'",
            "exec a true",
            "stop a",
            "wait a",
            "stop a",
            "stop none",
            "wait none",
        ],
    ),
    (&["history", "image history"], &["history --format '{{.CreatedBy}}' {i}", "history none"]),
    (&["image exists"], &["image exists {i}", "image exists none"]),
    (
        &["images", "image list"],
        &["images --format '{{.Repository}}:{{.Tag}}' {i}", "images -q --no-trunc {i}"],
    ),
    (
        &["tag", "image tag", "untag", "image untag", "rmi", "image rm"],
        &[
            "tag {i} again:1",
            "image exists again:1",
            "untag again:1 again:1",
            "image exists again:1",
            "tag none x",
            "rmi none",
        ],
    ),
    (
        &["save", "image save", "load", "image load"],
        &[
            "save -q -o {d}/saved.tar {i}",
            "load -q -i {d}/saved.tar",
            "save -o {d}/x none",
            "load -i {d}/none",
        ],
    ),
    (
        &["import", "image import", "export"],
        &[
            "create --name a {i}",
            "export -o {d}/e.tar a",
            "export -o {d}/x.tar none",
            "import -q {d}/e.tar mine:1",
            "run --rm mine:1 echo imported",
            "import {d}/none",
        ],
    ),
    (
        &["--add-host", "--dns", "--dns-option", "--dns-search"],
        &[
            "create --add-host some:10.1.2.3 --dns 10.1.2.4 --dns-option ndots:3 --dns-search example.org {i}",
            "create --add-host some {i}",
        ],
    ),
    (
        &["--annotation", "--label", "--label-file"],
        &[
            "create --name a --annotation a=b --label c=d --label-file {f} {i}",
            "inspect -f '{{.Config.Labels.c}}' a",
        ],
    ),
    (
        &["--cap-add", "--cap-drop", "--privileged"],
        &[
            "run --rm {i} grep -E 'CapEff|NoNewPrivs' /proc/self/status",
            "run --rm --cap-drop ALL {i} grep CapEff /proc/self/status",
            "run --rm --cap-drop ALL --cap-add CHOWN {i} grep CapBnd /proc/self/status",
            "run --rm --security-opt no-new-privileges {i} grep NoNewPrivs /proc/self/status",
            "run --rm --cap-add NO_SUCH {i} true",
            "run --rm --privileged {i} true",
        ],
    ),
    (&["--cidfile"], &["create --name a --cidfile {d}/cid {i}", "create --name b --cidfile {d}/cid {i}"]),
    (
        &["--detach", "--name", "--rm", "--quiet"],
        &["run -q -d --rm --name a {i} sleep 1000", "rm -f a", "run -d --name '-bad-' {i}"],
    ),
    (
        &[
            "--entrypoint",
            "--env",
            "--env-file",
            "--env-host",
            "--env-merge",
            "--unsetenv",
            "--unsetenv-all",
            "--http-proxy",
        ],
        &[
            "run --rm --entrypoint echo {i} a b",
            "run --rm --entrypoint '[\"echo\", \"x\"]' {i} y",
            "run --rm -e A=1 --env-file {f} {i} sh -c 'echo $A$KEY'",
            "run --rm -e A=1 --unsetenv A {i} sh -c 'echo $A'",
            "run --rm --env-host {i} sh -c 'echo $FROM_HOST'",
            "run --rm --http-proxy=false {i} sh -c 'echo $http_proxy'",
            "run --rm --env-merge PATH='${PATH}:/x' {i} sh -c 'echo $PATH'",
        ],
    ),
    (
        &["--expose", "--publish", "--publish-all"],
        &["create --expose 80 -P {i}", "create -p 18098:80/TCP {i}", "create -p bad:bad:bad {i}"],
    ),
    (
        &["--user", "--umask"],
        &[
            "run --rm -u 0 {i} id",
            "run --rm -u 1000 {i} id",
            "run --rm -u 1000:1000 --group-add 2000 {i} id -G",
            "run --rm -u nobodyatall {i} true",
            "run --rm --umask 0077 {i} sh -c 'umask; touch /x; ls -l /x | cut -c1-10'",
            "run --rm -w /tmp {i} pwd",
        ],
    ),
    (
        &["--health-retries", "--no-healthcheck", "--health-cmd", "healthcheck run"],
        &[
            "create --health-cmd true --health-retries 2 {i}",
            "create --no-healthcheck {i}",
            "create --health-cmd [] {i}",
            "create --health-cmd none --health-on-failure kill {i}",
            "run -d --name a --health-cmd '[\"test\", \"-e\", \"/ok\"]' --health-interval disable --health-retries 1 --health-start-period 0s {i} sleep 1000",
            "healthcheck run a",
            "inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' a",
            "exec a touch /ok",
            "healthcheck run a",
            "inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' a",
            "run -d --name b --health-cmd 'CMD test -e /no' --health-interval 0s {i} sleep 1000",
            "healthcheck run b",
            "run -d --name c {i} sleep 1000",
            "healthcheck run c",
            "healthcheck run none",
        ],
    ),
    (
        &["--health-on-failure"],
        &[
            "create --health-on-failure kill {i}",
            "create --health-on-failure bad --health-cmd true {i}",
            "run -d --name a --health-on-failure kill --restart always --health-cmd false --health-interval disable --health-retries 1 --health-start-period 0s {i} sleep 1000",
            "healthcheck run a",
            "wait a",
            "inspect -f '{{.State.ExitCode}} {{.RestartCount}}' a",
            "run -d --name b --health-on-failure stop --stop-signal USR1 --health-cmd false --health-interval disable --health-retries 1 --health-start-period 0s {i} sh -c 'trap \"exit 7\" USR1; touch /up; while :; do sleep 0.1; done'",
            "exec b sh -c 'until test -e /up; do sleep 0.1; done'",
            "healthcheck run b",
            "wait b",
        ],
    ),
    (
        &["--timeout"],
        &[
            "run --name a --timeout 2 {i} sleep 1000",
            "wait a",
            "inspect -f '{{.State.ExitCode}} {{.Config.Timeout}}' a",
            "run --rm --timeout 0 {i} true",
            "run --rm --timeout -1 {i} true",
        ],
    ),
    (
        &["--attach"],
        &[
            "run --rm -a stdout {i} sh -c 'echo out; echo err >&2'",
            "run --rm -a stderr {i} sh -c 'echo out; echo err >&2'",
            "run --rm -a STDOUT,stderr {i} sh -c 'echo out; echo err >&2'",
            "run --name a -a stdin {i} sh -c 'echo out; exit 3'",
            "logs a",
            "run --rm -a bad {i} true",
            "run -d -a bad {i} true",
            "run --rm -a '' {i} true",
            "run -d --rm -a stdout {i} true",
            "create -a stdin {i}",
        ],
    ),
    (
        &["--no-hosts"],
        &[
            "run --rm --no-hosts {i} ls /etc/hosts",
            "run --rm --no-hosts --add-host a:1.2.3.4 {i} true",
            "run --rm --no-hosts=false --add-host a:1.2.3.4 {i} grep 1.2.3.4 /etc/hosts",
        ],
    ),
    (
        &["--pull", "--authfile"],
        &[
            "run --rm --pull newer {i} true",
            "run --rm --pull IfNotPresent {i} true",
            "run --rm --pull never {i} true",
            "run --rm --pull bad {i} true",
            "run --rm --authfile {d}/none {i} true",
            "create --tls-verify=false {i}",
        ],
    ),
    (
        &["--sig-proxy"],
        &[
            "run --rm --sig-proxy {i} echo up",
            "run --rm --sig-proxy=false {i} sh -c 'echo up; exit 3'",
            "run --rm -i --sig-proxy=false {i} cat",
            "create --sig-proxy=false {i}",
        ],
    ),
    (&["--hostname"], &["run --rm --hostname some {i} hostname"]),
    (
        &["--interactive", "--tty", "--detach-keys"],
        &["run --rm -i {i} cat", "create -it --detach-keys ctrl-x {i}"],
    ),
    (
        &["--oom-score-adj"],
        &[
            "run --rm --oom-score-adj 100 {i} cat /proc/self/oom_score_adj",
            "run --rm --ulimit nofile=512:512 {i} sh -c 'ulimit -n'",
            "run --rm --ulimit nosuch=1 {i} true",
            "create -m 256m --memory-swap 256m {i}",
            "create --pids-limit 100 {i}",
        ],
    ),
    (
        &["--read-only", "--read-only-tmpfs", "--tmpfs", "--shm-size", "--sysctl", "--tz"],
        &[
            "run --rm --read-only {i} sh -c 'touch /x 2>/dev/null; echo $?; touch /tmp/x; echo $?'",
            "run --rm --read-only -v /anonymous -v named:/named {i} touch /anonymous/f /named/f",
            "volume rm named",
            "run --rm --tmpfs /t:size=1m {i} sh -c 'grep -c \" /t tmpfs \" /proc/mounts'",
            "run --rm --shm-size 1m {i} sh -c 'df /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
            "run --rm --sysctl net.ipv4.ip_unprivileged_port_start=80 {i} cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
            "run --rm --sysctl bad {i} true",
            "run --rm --tz Europe/Paris {i} sh -c 'date +%Z'",
        ],
    ),
    (
        &["volume exists", "volume rm"],
        &[
            "run --rm -v data:/d {i} sh -c 'echo x > /d/f'",
            "run --rm -v data:/other:ro {i} cat /other/f",
            "run --rm -v data:/d:ro {i} touch /d/g",
            "run --rm -v fresh:/etc {i} head -c 4 /etc/passwd",
            "run --rm -u 1000 -v owned:/none/such {i} sh -c 'touch /none/such/f; stat -c %u:%g /none/such'",
            "run --rm -v /anonymous {i} sh -c 'echo y > /anonymous/f; cat /anonymous/f'",
            "create -v data:/d:ro,rw {i}",
            "create -v data:d {i}",
            "create -v 'a b:/d' {i}",
            "create --name a -v data:/d -v data:/d {i}",
            "volume exists data",
            "volume exists dat",
            "volume rm data",
            "volume rm none",
            "volume rm -f none",
            "volume rm -t 1 data",
            "volume rm -f data",
            "ps -a -q",
            "volume rm",
            "volume rm -a",
            "run --name a -v data:/d {i} sh -c 'echo x > /d/f'",
            "run --rm --volumes-from a {i} cat /d/f",
            "run --rm --volumes-from a:ro {i} touch /d/g",
            "run --rm --volumes-from a -v other:/d {i} ls /d",
            "create --volumes-from none {i}",
            "create --volumes-from a:shiny {i}",
            "rm -f a",
            "volume rm -a",
            "volume create -l a=b,c=d data",
            "volume create data",
            "volume create 'a/b'",
            "volume create a b",
            "volume create -o colour=red none",
            "volume create --driver nosuch none",
            "volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Options}} {{.MountCount}} {{.NeedsCopyUp}}' dat",
            "volume inspect -f '{{.Name}}' data none",
            "volume inspect",
            "volume ls",
            "volume ls --noheading",
            "volume ls -q --filter label=a=b",
            "volume ls -q --filter foo=x",
            "volume ls --format '{{.Name}}'",
            "volume prune -f --filter label=none",
            "volume prune -f",
            "volume ls",
        ],
    ),
    (&["--rmi", "--disable-content-trust"], &["create --disable-content-trust {i}"]),
];

/// Rows whose scenario needs what no table line can give, and the test that covers each.
const ELSEWHERE: &[(&str, &str)] = &[
    ("login", "exchange.rs: a registry with a login"),
    ("logout", "exchange.rs"),
    ("pull", "exchange.rs: a registry"),
    ("image pull", "exchange.rs"),
    ("push", "exchange.rs"),
    ("image push", "exchange.rs"),
    ("--mac-address", "command_line.rs: podman needs a network for it, which needs more packages"),
];

/// The rows that docs/reference/podman.md calls "same".
fn same_rows() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/podman.md");
    let text = fs::read_to_string(path).expect("readable");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        (cells.get(2) == Some(&"same")).then(|| cells[1].trim_matches('`').to_owned())
    });
    rows.collect()
}

#[test]
fn every_row_that_is_the_same_has_a_scenario() {
    let covered = SCENARIOS.iter().flat_map(|(rows, _)| rows.iter().copied());
    let covered: BTreeSet<String> =
        covered.chain(ELSEWHERE.iter().map(|(row, _)| *row)).map(str::to_owned).collect();
    let same = same_rows();
    assert!(same.len() > 80, "the table was not found");
    assert_eq!(covered.difference(&same).collect::<Vec<_>>(), Vec::<&String>::new(), "no longer the same");
    assert_eq!(same.difference(&covered).collect::<Vec<_>>(), Vec::<&String>::new(), "without a scenario");
}

/// Splits a line into words; quotes group.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_open) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (None, '\'') => (quote, is_open) = (Some(c), true),
            (Some('\''), '\'') => quote = None,
            (None, ' ') => {
                if is_open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            _ => word.push(c),
        }
    }
    if is_open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// One of the two programs, with a store of its own.
struct Tool<'a> {
    world: &'a World,
    is_podman: bool,
    files: std::path::PathBuf,
}

impl Tool<'_> {
    fn command(&self, args: &[String]) -> Command {
        let mut command =
            if self.is_podman { self.world.program("podman") } else { self.world.command([""; 0]) };
        if self.is_podman {
            let dir = self.world.files().join("podman");
            command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
            let settings = ["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"];
            command.args(settings).args(["--events-backend", "file"]);
        }
        command.args(self.options(args)).env("FROM_HOST", "yes").env("http_proxy", "http://proxy.example");
        command
    }

    /// The line's words, with the options that podman needs where it has no privileges over limits and no network.
    fn options(&self, args: &[String]) -> Vec<String> {
        let starts = matches!(args[0].as_str(), "run" | "create");
        if !self.is_podman || !starts {
            return args.to_vec();
        }
        let mut all = vec![args[0].clone()];
        // It refuses name servers without a network.
        if !args.iter().any(|arg| arg == "--dns") {
            all.extend(["--network".to_owned(), "none".to_owned()]);
        }
        for limit in ["nofile", "nproc"].iter().filter(|name| !args.iter().any(|arg| arg.starts_with(**name)))
        {
            all.extend(["--ulimit".to_owned(), format!("{limit}=1024:1024")]);
        }
        all.extend_from_slice(&args[1..]);
        all
    }

    /// The exit code and the output, with ids replaced.
    fn run(&self, line: &str) -> (i32, String) {
        let (dir, file) = (self.files.display().to_string(), self.files.join("file").display().to_string());
        let fill = |word: String| word.replace("{i}", "busybox").replace("{d}", &dir).replace("{f}", &file);
        let args: Vec<_> = words(line).into_iter().map(fill).collect();
        let outcome = self.world.finish(self.command(&args));
        (outcome.code, without_ids(&outcome.stdout))
    }
}

/// Replaces words that are ids.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| {
        let digits = word.strip_prefix("sha256:").unwrap_or(word);
        digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let line = |line: &str| {
        line.split(' ').map(|word| if is_id(word) { "ID" } else { word }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Compares the scenarios whose number leaves `part` as its remainder.
fn compare(part: usize, parts: usize) {
    let world = World::new(User::Root);
    let layout = world.image(&Image::busybox("busybox"));
    let archive = world.files().join("busybox.tar");
    let mut skopeo = world.program("skopeo");
    let destination = format!("docker-archive:{}:localhost/busybox:latest", archive.display());
    skopeo.args(["--insecure-policy", "copy", "-q", &layout, &destination]);
    world.finish(skopeo).code(0);
    let tools = [true, false].map(|is_podman| {
        let files = world.files().join(if is_podman { "of-podman" } else { "of-mimeo" });
        fs::create_dir(&files).expect("created");
        fs::write(files.join("file"), "KEY=value\n").expect("written");
        Tool { world: &world, is_podman, files }
    });
    for tool in &tools {
        let prepare = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            world.finish(tool.command(&args)).code(0)
        };
        prepare(&["load", "-q", "-i", &archive.to_string_lossy()]);
    }
    let mut differences = Vec::new();
    for (rows, lines) in SCENARIOS.iter().skip(part).step_by(parts) {
        for line in *lines {
            let [podman, mimeo] = tools.each_ref().map(|tool| tool.run(line));
            if podman != mimeo {
                differences.push(format!("{rows:?}: {line}\n  podman: {podman:?}\n  mimeo:  {mimeo:?}"));
            }
        }
        for tool in &tools {
            tool.run(if tool.is_podman { "rm -f -a -t 0" } else { "rm -f -a" });
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_same_rows_are_the_same_1() {
    compare(0, 3);
}

#[test]
fn the_same_rows_are_the_same_2() {
    compare(1, 3);
}

#[test]
fn the_same_rows_are_the_same_3() {
    compare(2, 3);
}
