//! Conversions there and back, and values that are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use mimeo_agent_protocol::Capabilities;
use mimeo_agent_protocol::message::{Resource, ResourceLimit, Tmpfs};
use mimeo_engine::log::{LogConfig, LogDriver};
use mimeo_engine::machine::{
    ContainerOptions, HOST_GATEWAY, HealthAction, HealthProbe, HealthSpec, ImageVolumes, MachineSpec,
    NetworkMode, PullPolicy, RegistryAccess, RestartPolicy, VolumeMount,
};
use mimeo_manager_api::CreateMachine;
use mimeo_net::PortMapping;
use mimeo_volume::VolumeSpec;
use serde_json::{Value, json};

use super::{clone_overrides, create_machine, machine_spec, needs_host_access, registry_credentials};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

fn wire(value: Value) -> CreateMachine {
    serde_json::from_value(value).expect("a request")
}

/// Options of a container, each of which differs from the default.
fn container() -> ContainerOptions {
    let tmpfs = Tmpfs {
        target: "/scratch".into(),
        options: "size=1m,mode=700".into(),
        read_only: true,
        no_exec: true,
        suid: true,
        dev: true,
        copy_up: true,
    };
    ContainerOptions {
        privileged: true,
        cap_add: Capabilities::parse("net_admin").expect("a capability"),
        cap_drop: Capabilities::ALL,
        no_new_privileges: true,
        security_opt: words(&["no-new-privileges", "label=disable"]),
        group_add: words(&["audio", "27"]),
        ulimits: vec![ResourceLimit { resource: Resource::Core, soft: 0, hard: ResourceLimit::UNLIMITED }],
        pids_limit: Some(77),
        nano_cpus: Some(1_234_567_891),
        memory_swap: Some(-1),
        sysctls: map("net.core.somaxconn", "7"),
        read_only: true,
        tmpfs: vec![tmpfs, Tmpfs { target: "/empty".into(), ..Tmpfs::default() }],
        shm_bytes: Some(1 << 20),
        time_zone: Some("Etc/UTC".into()),
        umask: Some(0o27),
        oom_score_adj: Some(-5),
    }
}

/// A spec of which each field differs from the default.
fn rich() -> MachineSpec {
    let volume = VolumeMount {
        name: Some(parse("data")),
        target: "/data".into(),
        read_only: true,
        no_exec: true,
        suid: true,
        dev: true,
        no_copy: true,
    };
    MachineSpec {
        command: words(&["a", "b c"]),
        entrypoint: Some(Vec::new()),
        env: map("A", "1"),
        workdir: Some("/srv/".into()),
        user: Some("1:2".into()),
        hostname: Some("host.example".into()),
        name: Some(parse("web")),
        labels: map("tier", "front"),
        cpus: 4,
        memory_mib: 1024,
        disk_bytes: 1 << 31,
        network: NetworkMode::Bridged,
        vm_to_vm: true,
        ports: PortMapping::parse("127.0.0.1:8000-8001:80-81/udp").expect("ports"),
        dns: words(&["9.9.9.9", "::1"]),
        add_hosts: map("gateway", HOST_GATEWAY),
        volumes: vec![VolumeSpec { host: "/host".into(), guest: "/guest".into(), read_only: true }],
        volume_mounts: vec![volume, VolumeMount { target: "/anonymous".into(), ..VolumeMount::default() }],
        image_volumes: ImageVolumes::Tmpfs,
        tty: true,
        interactive: true,
        init: true,
        health: Some(HealthSpec {
            probe: HealthProbe::Url("http://127.0.0.1/".into()),
            interval: Duration::from_millis(1500),
            timeout: Duration::from_secs(3),
            retries: 9,
            start_period: Duration::ZERO,
        }),
        health_on_failure: HealthAction::Stop,
        container: container(),
        log: LogConfig { driver: LogDriver::None, max_bytes: None, max_files: 2 },
        ..rich_start()
    }
}

/// The fields that say how a machine is started and when it ends.
fn rich_start() -> MachineSpec {
    MachineSpec {
        remove: true,
        remove_image: true,
        restart: RestartPolicy::OnFailure { max: Some(3) },
        pull: PullPolicy::Newer,
        driver: "firecracker".into(),
        accelerator: parse("tcg"),
        stop_signal: Some(37),
        stop_timeout: 1,
        start_timeout: 2,
        timeout: 3,
        cold: true,
        dns_search: words(&["example.org"]),
        dns_options: words(&["ndots:2"]),
        expose: PortMapping::parse("53/udp").expect("a port"),
        publish_exposed: true,
        mac: Some(parse("02:00:00:00:00:09")),
        bridge_ip: Some(parse("10.202.0.9")),
        env_merge: map("PATH", "${PATH}:/opt"),
        unset_env: BTreeSet::from(["HOME".to_owned()]),
        unset_all_env: true,
        annotations: map("note", "x"),
        no_hosts: true,
        registry: RegistryAccess {
            insecure_registries: words(&["localhost:5000"]),
            skip_tls_verification: true,
            auth_file: Some(PathBuf::from("/auth.json")),
        },
        ..MachineSpec::new("nginx:1")
    }
}

/// Compatible halves of the rich spec: some of its fields exclude each other.
fn variants() -> [MachineSpec; 4] {
    let kept = MachineSpec { remove: false, remove_image: false, no_hosts: false, ..rich() };
    let removed = MachineSpec { restart: RestartPolicy::No, add_hosts: BTreeMap::new(), ..rich() };
    let command = HealthProbe::Command(words(&["probe", "-x"]));
    let checked = MachineSpec { health: Some(HealthSpec::new(command)), ..kept.clone() };
    let disabled = HealthSpec::new(HealthProbe::Command(Vec::new()));
    let unchecked =
        MachineSpec { health: Some(disabled), health_on_failure: HealthAction::None, ..removed.clone() };
    [kept, removed, checked, unchecked]
}

fn assert_identity(spec: &MachineSpec) {
    let json = serde_json::to_string(&create_machine(spec)).expect("JSON");
    let read: CreateMachine = serde_json::from_str(&json).expect("a request");
    assert_eq!(machine_spec(&read).as_ref(), Ok(spec), "{json}");
}

/// The names of the fields that two values have in common, other than the image.
fn same_fields(one: &impl serde::Serialize, other: &impl serde::Serialize) -> Vec<String> {
    let [one, other] =
        [serde_json::to_value(one), serde_json::to_value(other)].map(|json| json.expect("JSON"));
    let fields = one.as_object().expect("an object").iter();
    fields.filter(|(name, value)| other.get(name) == Some(value)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn the_rich_spec_sets_each_field() {
    assert_eq!(same_fields(&rich(), &MachineSpec::new("other")), [""; 0]);
    assert_eq!(same_fields(&container(), &ContainerOptions::default()), [""; 0]);
}

#[test]
fn a_spec_survives_the_way_there_and_back() {
    variants().iter().for_each(assert_identity);
    assert_identity(&MachineSpec::new("busybox"));
    for max in [None, Some(1)] {
        assert_identity(&MachineSpec { restart: RestartPolicy::OnFailure { max }, ..MachineSpec::new("a") });
    }
    for restart in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
        assert_identity(&MachineSpec { restart, ..MachineSpec::new("a") });
    }
    let on_failure = MachineSpec { health_on_failure: HealthAction::Kill, ..MachineSpec::new("a") };
    assert_identity(&on_failure);
}

#[test]
fn signals_and_shares_of_cpus_survive() {
    for number in 1..=64 {
        assert_identity(&MachineSpec { stop_signal: Some(number), ..MachineSpec::new("a") });
    }
    for (cpus, nanos) in
        [(1, None), (1, Some(10_000_000)), (8, Some(333_333_333)), (64, Some(63_999_999_999))]
    {
        let mut spec = MachineSpec { cpus, ..MachineSpec::new("a") };
        spec.container.nano_cpus = nanos;
        assert_identity(&spec);
    }
}

#[test]
fn a_short_request_has_podmans_defaults() {
    let spec = machine_spec(&wire(json!({"image": "nginx"}))).expect("a spec");
    assert_eq!(spec, MachineSpec::new("nginx"));
    let request = wire(json!({
        "image": "nginx", "cpus": 0.5, "ports": [{"container_port": 80, "host_port": 8080, "range": 2}],
        "security": {"read_only": true}, "volumes": [{"type": "tmpfs", "target": "/tmp/", "options": "size=1m"}]
    }));
    let spec = machine_spec(&request).expect("a spec");
    assert_eq!((spec.cpus, spec.container.nano_cpus), (1, Some(500_000_000)));
    assert_eq!(spec.ports, PortMapping::parse("8080-8081:80-81").expect("ports"));
    let targets: Vec<_> = spec.container.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str()).collect();
    assert_eq!(targets, ["/tmp", "/run", "/var/tmp"]);
    assert!(request.should_start());
}

/// The field that the error of a request names; the image is given.
fn refused_field(mut request: Value) -> String {
    if let Some(fields) = request.as_object_mut() {
        fields.entry("image").or_insert(json!("nginx"));
    }
    machine_spec(&wire(request.clone())).map_or_else(|error| error.field, |_| format!("none: {request}"))
}

#[test]
fn an_invalid_value_is_named() {
    for (field, request) in [
        ("image", json!({"image": null})),
        ("image", json!({"image": "A B"})),
        ("snapshot", json!({"snapshot": "s"})),
        ("name", json!({"name": "-x"})),
        ("command[1]", json!({"command": ["a", "\0"]})),
        ("entrypoint[0]", json!({"entrypoint": ["\0"]})),
        ("env", json!({"env": {"A=B": "1"}})),
        ("env.A", json!({"env": {"A": "\0"}})),
        ("env_merge", json!({"env_merge": {"": "1"}})),
        ("workdir", json!({"workdir": "srv"})),
        ("user", json!({"user": "a\nb"})),
        ("hostname", json!({"hostname": "a b"})),
        ("cpus", json!({"cpus": 0})),
        ("cpus", json!({"cpus": -1})),
        ("cpus", json!({"cpus": 1e300})),
        ("restart.max_retries", json!({"restart": {"policy": "always", "max_retries": 2}})),
        ("restart.max_retries", json!({"restart": {"policy": "on-failure", "max_retries": 0}})),
        ("restart.policy", json!({"remove": true, "restart": {"policy": "always"}})),
        ("remove_image", json!({"remove_image": true})),
        ("stop_signal", json!({"stop_signal": "SIGNOPE"})),
        ("time_zone", json!({"time_zone": "../passwd"})),
        ("log.max_bytes", json!({"log": {"max_bytes": 10}})),
        ("log.max_files", json!({"log": {"max_files": 0}})),
        ("registry.auth_file", json!({"registry": {"auth_file": "auth.json"}})),
    ] {
        assert_eq!(refused_field(request), field);
    }
}

#[test]
fn an_invalid_port_or_network_is_named() {
    for (field, request) in [
        ("ports[0].container_port", json!({"ports": [{"container_port": 0}]})),
        ("ports[0].container_port", json!({"ports": [{"container_port": 65535, "range": 2}]})),
        (
            "ports[1].host_port",
            json!({"ports": [{"container_port": 1}, {"container_port": 1, "host_port": 0}]}),
        ),
        ("ports[0].host_ip", json!({"ports": [{"container_port": 1, "host_ip": "::1"}]})),
        ("ports[0].range", json!({"ports": [{"container_port": 1, "range": 0}]})),
        ("expose[0].container_port", json!({"expose": [{"container_port": 0}]})),
        ("network.mac", json!({"network": {"mac": "01:00:00:00:00:00"}})),
        ("network.mac", json!({"network": {"mode": "none", "mac": "02:00:00:00:00:01"}})),
        ("network.ip", json!({"network": {"ip": "10.202.0.9"}})),
        ("network.ip", json!({"network": {"mode": "bridged", "ip": "x"}})),
        ("network.dns[0]", json!({"network": {"dns": ["x"]}})),
        ("network.dns_search[0]", json!({"network": {"dns_search": ["a b"]}})),
        ("network.dns_options[0]", json!({"network": {"dns_options": ["a\nb"]}})),
        ("network.add_hosts", json!({"network": {"add_hosts": {"a b": "1.1.1.1"}}})),
        ("network.add_hosts.a", json!({"network": {"add_hosts": {"a": "x"}}})),
        ("network.add_hosts.a", json!({"network": {"mode": "none", "add_hosts": {"a": HOST_GATEWAY}}})),
        ("network.no_hosts", json!({"network": {"no_hosts": true, "add_hosts": {"a": "1.1.1.1"}}})),
    ] {
        assert_eq!(refused_field(request), field);
    }
}

#[test]
fn an_invalid_mount_or_health_check_is_named() {
    let tmpfs = |target: &str, options: &str| json!({"type": "tmpfs", "target": target, "options": options});
    for (field, request) in [
        ("volumes[0].source", json!({"volumes": [{"type": "bind", "source": "x", "target": "/x"}]})),
        ("volumes[0].target", json!({"volumes": [{"type": "bind", "source": "/x", "target": "x"}]})),
        ("volumes[0].source", json!({"volumes": [{"type": "volume", "source": "a/b", "target": "/x"}]})),
        ("volumes[0].target", json!({"volumes": [{"type": "volume", "target": "/x/.."}]})),
        ("volumes[0].target", json!({"volumes": [tmpfs("/proc/", "")]})),
        ("volumes[1].target", json!({"volumes": [tmpfs("/a", ""), tmpfs("/a/", "")]})),
        ("volumes[0].options", json!({"volumes": [tmpfs("/a", "context=x")]})),
        ("volumes[0].options", json!({"volumes": [tmpfs("/a", "size=1,")]})),
        ("no_healthcheck", json!({"no_healthcheck": true, "health": {"command": ["a"]}})),
        ("health.command", json!({"health": {"command": []}})),
        ("health.url", json!({"health": {"url": "https://x"}})),
        ("health.url", json!({"health": {"url": "http://x", "command": ["a"]}})),
        ("health.interval_seconds", json!({"health": {"url": "http://x", "interval_seconds": -1}})),
        ("health.interval_seconds", json!({"health": {"interval_seconds": 1}})),
        ("health.timeout_seconds", json!({"health": {"url": "http://x", "timeout_seconds": 0}})),
        ("health.retries", json!({"health": {"url": "http://x", "retries": 0}})),
    ] {
        assert_eq!(refused_field(request), field);
    }
}

#[test]
fn an_invalid_privilege_or_limit_is_named() {
    let ulimit = |name: &str, soft: i64, hard: i64| json!({"name": name, "soft": soft, "hard": hard});
    for (field, request) in [
        ("security.cap_add[0]", json!({"security": {"cap_add": ["NOPE"]}})),
        ("security.cap_drop[1]", json!({"security": {"cap_drop": ["CHOWN", "NOPE"]}})),
        ("security.cap_drop", json!({"security": {"cap_add": ["CHOWN"], "cap_drop": ["chown"]}})),
        ("security.cap_drop", json!({"security": {"cap_add": ["ALL"], "cap_drop": ["ALL"]}})),
        ("security.security_opt[0]", json!({"security": {"security_opt": ["seccomp=x.json"]}})),
        ("security.groups[0]", json!({"security": {"groups": [""]}})),
        ("security.umask", json!({"security": {"umask": "0999"}})),
        ("security.umask", json!({"security": {"umask": "+22"}})),
        ("resources.vcpus", json!({"resources": {"vcpus": 0}})),
        ("resources.vcpus", json!({"cpus": 2, "resources": {"vcpus": 1}})),
        ("resources.memory_swap_bytes", json!({"resources": {"memory_swap_bytes": 5}})),
        ("resources.shm_bytes", json!({"resources": {"shm_bytes": 0}})),
        ("resources.sysctls", json!({"resources": {"sysctls": {"../x": "1"}}})),
        ("resources.oom_score_adj", json!({"resources": {"oom_score_adj": 1001}})),
        ("resources.ulimits[0].name", json!({"resources": {"ulimits": [ulimit("nope", 1, 1)]}})),
        ("resources.ulimits[0].soft", json!({"resources": {"ulimits": [ulimit("core", 2, 1)]}})),
        ("resources.ulimits[0].hard", json!({"resources": {"ulimits": [ulimit("core", 1, -2)]}})),
        (
            "resources.ulimits[1].name",
            json!({"resources": {"ulimits": [ulimit("core", 1, 1), ulimit("core", 2, 2)]}}),
        ),
    ] {
        assert_eq!(refused_field(request), field);
    }
}

#[test]
fn unknown_fields_are_refused() {
    for request in [
        json!({"image": "a", "comand": []}),
        json!({"image": "a", "network": {"mtu": 9000}}),
        json!({"image": "a", "volumes": [{"type": "tmpfs", "target": "/a", "source": "/b"}]}),
        json!({"image": "a", "volumes": [{"target": "/a"}]}),
        json!({"image": "a", "restart": {"policy": "never"}}),
    ] {
        assert!(serde_json::from_value::<CreateMachine>(request.clone()).is_err(), "{request}");
    }
}

#[test]
fn files_of_the_host_are_recognised() {
    let uses = |request| needs_host_access(&wire(request));
    for image in ["oci:/images/a", "oci-archive:a.tar", "docker-archive:a.tar"] {
        assert_eq!(uses(json!({"image": image})), Some("image"), "{image}");
    }
    let bind = json!([{"type": "bind", "source": "/", "target": "/host"}]);
    assert_eq!(uses(json!({"image": "a", "volumes": bind})), Some("volumes"));
    assert_eq!(uses(json!({"image": "a", "registry": {"auth_file": "/a"}})), Some("registry.auth_file"));
    let volume = json!([{"type": "volume", "source": "data", "target": "/data"}]);
    assert_eq!(uses(json!({"image": "docker.io/library/a", "volumes": volume})), None);
}

#[test]
fn a_login_is_not_part_of_the_spec() {
    let request = wire(json!({"image": "a", "registry": {"auth": {"username": "me", "password": "secret"}}}));
    let spec = machine_spec(&request).expect("a spec");
    assert!(!format!("{spec:?}{request:?}").contains("secret"));
    let login = registry_credentials(&request).expect("valid").expect("a login");
    assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "secret"));
    let bad = wire(json!({"registry": {"auth": {"username": "", "password": "secret"}}}));
    assert!(registry_credentials(&bad).is_err_and(|error| error.field == "registry.auth.username"));
}

#[test]
fn a_clone_has_few_settings_of_its_own() {
    let request = json!({
        "snapshot": "s", "name": "web", "env": {"A": "1"}, "remove": true, "ttl_seconds": 5, "start": true,
        "ports": [{"container_port": 80}]
    });
    let overrides = clone_overrides(&wire(request)).expect("overrides");
    assert_eq!(overrides.name, Some(parse("web")));
    assert_eq!(overrides.ports, PortMapping::parse("80").ok());
    assert!(overrides.remove && overrides.env.contains_key("A"));
    assert_eq!(clone_overrides(&wire(json!({"snapshot": "s"}))).expect("overrides").ports, None);
    for (field, value) in [("image", json!("a")), ("cpus", json!(2)), ("memory_mib", json!(64))] {
        let refused = clone_overrides(&wire(json!({"snapshot": "s", field: value}))).expect_err(field);
        assert_eq!(refused.field, field);
    }
}
