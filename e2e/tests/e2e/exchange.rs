//! Images that are exchanged with other tools: odd images, archives, registries and logins.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use e2e::{Image, LOGIN, Layer, Outcome, Registry, User, World, as_root_and_user, sha256, until};
use serde_json::{Value, json};

/// The raw manifest of an image, as skopeo reads it.
fn skopeo_manifest(world: &World, options: &[&str], image: &str) -> String {
    let mut skopeo = world.program("skopeo");
    skopeo.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]).args(options).arg(image);
    world.finish(skopeo).code(0).stdout
}

fn digest_of(manifest: &str) -> String {
    format!("sha256:{}", sha256(manifest.as_bytes()))
}

fn inspect(world: &World, image: &str) -> Value {
    world.mimeo(["image", "inspect", image]).ok().json()[0].clone()
}

/// Pulls an image with a history, under the name `localhost/NAME:latest`.
fn pull(world: &World, name: &str) -> String {
    let marked = Layer::default().file("name", 0o644, name);
    let image = world.image(&Image::busybox(name).layer(marked));
    world.mimeo(["pull", "-q", &image]).ok();
    format!("localhost/{name}:latest")
}

as_root_and_user!(names_that_are_not_utf8_are_kept, |world| {
    let layer = Layer::default()
        .dir("d/", 0o755)
        .raw_file(b"d/caf\xe9", "one\n")
        .raw_link("d/l", b"caf\xe9")
        .raw_dir(b"d/\xfcber/")
        .raw_file(b"d/\xfcber/\xff", "two\n");
    let image = world.image(&Image::busybox("latin").layer(layer));
    world.start(["--name", "latin", &image, "sleep", "1000"]);
    let script = "cat /d/caf* /d/l /d/*/*; readlink /d/l | od -An -c; echo /d/caf* | tail -c 5 | od -An -c";
    let printed = "one\none\ntwo\n   c   a   f 351  \\n\n   c   a   f 351  \\n\n";
    world.mimeo(["exec", "latin", "sh", "-c", script]).ok().printed(printed);
    // They survive a copy to the host and back.
    world.mimeo(["cp", "latin:/d", "copy"]).ok();
    world.mimeo(["cp", "copy", "latin:/back"]).ok();
    let script = script.replace("/d", "/back");
    world.mimeo(["exec", "latin", "sh", "-c", &script]).ok().printed(printed);
    world.mimeo(["rm", "-f", "latin"]).ok();
});

#[test]
fn a_large_directory_of_names_that_are_not_utf8_is_searched() {
    let world = World::new(User::Root);
    let name = |number: u32| [format!("big/{number:05}-").as_bytes(), &[0xe9; 80][..]].concat();
    let layer = (0..2000).fold(Layer::default().dir("big/", 0o755), |layer, number| {
        layer.raw_file(&name(number), &number.to_string())
    });
    let image = world.image(&Image::busybox("big").layer(layer));
    let script = "ls /big | wc -l; cat /big/01234-*; rm /big/01234-*; ls /big | wc -l";
    world.mimeo(["run", "--rm", &image, "sh", "-c", script]).code(0).printed("2000\n12341999\n");
}

#[test]
fn images_without_an_architecture_run() {
    let world = World::new(User::Root);
    for (name, architecture) in [("empty", ""), ("kernel", "x86_64")] {
        let image = world.image(&Image::busybox(name).architecture(architecture));
        world.mimeo(["run", "--rm", &image, "echo", name]).code(0).printed(&format!("{name}\n"));
    }
    let other = world.image(&Image::busybox("other").architecture("arm64"));
    world
        .mimeo(["run", "--rm", &other, "true"])
        .code(125)
        .stderr_contains("the image is for linux/arm64, not for linux/amd64");
}

#[test]
fn another_platform_is_refused() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for option in ["--platform=linux/arm64", "--arch=arm64", "--os=windows"] {
        for command in [&["pull"][..], &["run", "--rm"]] {
            let args = [command, &[option, &image]].concat();
            world.mimeo(args).code(125).stderr_contains("cannot use images for ");
        }
    }
    world.mimeo(["pull", "--platform=nonsense", &image]).code(125).stderr_contains("nonsense");
    world.mimeo(["run", "--rm", "--platform=linux/amd64", &image, "echo", "here"]).code(0).printed("here\n");
    world.mimeo(["run", "--rm", "--arch=x86_64", "--os=linux", &image, "true"]).code(0);
    world.mimeo(["pull", "--all-tags", "x"]).code(125).stderr_contains("cannot pull all tags");
}

#[test]
fn names_are_added_and_taken() {
    let world = World::new(User::Root);
    let image = pull(&world, "first");
    let id = inspect(&world, &image)["id"].clone();
    let names = || world.mimeo(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
    world.mimeo(["tag", &image, "more", "quay.io/team/app:2"]).ok().printed("");
    assert_eq!(names(), "localhost/first:latest\nlocalhost/more:latest\nquay.io/team/app:2\n");
    assert_eq!(inspect(&world, "more")["id"], id);
    world.mimeo(["image", "untag", &image, "more"]).ok().printed("");
    world.mimeo(["untag", &image, "more"]).code(125).stderr_contains("localhost/more:latest: tag not known");
    world.mimeo(["tag", "nothing", "x"]).code(125).stderr_contains("nothing: image not known");
    world.mimeo(["tag", &image, "UPPER"]).code(125).stderr_contains("is not an image name");
    world.mimeo(["untag", &image]).ok();
    assert_eq!(names(), "<none>:<none>\n");
}

#[test]
fn the_history_is_shown_as_podman_shows_it() {
    let world = World::new(User::Root);
    drop(world.busybox());
    let tar = world.file("root.tar", Layer::default().file("x", 0o644, "x").archive());
    world.mimeo(["import", "-q", tar.to_str().expect("text"), "localhost/made"]).ok();
    let id = inspect(&world, "made")["id"].as_str().expect("an id")[7..].to_owned();
    let table = world.mimeo(["history", "made"]).ok();
    let mut lines = table.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().expect("headings").join(" "), "ID CREATED CREATED BY SIZE COMMENT");
    let row = lines.next().expect("a row").join(" ");
    assert!(row.starts_with(&id[..12]) && row.contains("2.05 kB imported from"), "{row}");
    assert_eq!(lines.next(), None);
    world.mimeo(["history", "-q", "--no-trunc", "made"]).ok().printed(&format!("{id}\n"));
    let size = world.mimeo(["image", "history", "--format", "{{.Size}} {{.Tags}}", "made"]).ok();
    assert_eq!(size.stdout, "2.05 kB [localhost/made:latest]\n");
    let steps = world.mimeo(["history", "--format", "json", "made"]).ok().json();
    assert_eq!((&steps[0]["id"], &steps[0]["size"]), (&json!(id), &json!(2048)), "{steps}");
    let when = world.mimeo(["history", "--human=false", "--format", "{{.Created}}", "made"]).ok();
    assert!(when.text().ends_with('Z') && when.text().contains('T'), "{when:?}");
    world.mimeo(["history", "nothing"]).code(125).stderr_contains("nothing: image not known");
}

as_root_and_user!(saved_images_are_loaded, |world| {
    let (first, second) = (pull(world, "first"), pull(world, "second"));
    let id = inspect(world, &first)["id"].clone();
    for format in ["docker-archive", "oci-archive"] {
        world.mimeo(["save", "--format", format, "-o", "saved.tar", &first, &second]).ok().printed("");
        world.mimeo(["rmi", &first, &second]).ok();
        let loaded = world.mimeo(["load", "-i", "saved.tar"]).ok();
        assert_eq!(loaded.stdout, format!("Loaded image: {first}\nLoaded image: {second}\n"));
        assert_eq!(inspect(world, &first)["id"], id);
    }
    world.mimeo(["run", "--rm", &second, "cat", "/name"]).ok().printed("second");
    let mut save = world.command(["save", &second]);
    let archive = save.output().expect("saved").stdout;
    world.mimeo(["rmi", &second]).ok();
    world.mimeo_with_input(["load"], &archive).ok().printed(&format!("Loaded image: {second}\n"));
    world
        .mimeo_with_input(["load"], &archive[..archive.len() / 2])
        .code(125)
        .stderr_contains("cannot be loaded");
    world.mimeo_with_input(["load"], b"x").code(125).stderr_contains("standard input");
    world.mimeo(["load", "-i", "missing.tar"]).code(125).stderr_contains("missing.tar");
});

#[test]
fn other_tools_read_what_is_saved() {
    let world = World::new(User::Root);
    let image = pull(&world, "first");
    let digest = inspect(&world, &image)["digest"].clone();
    world.mimeo(["save", "--format", "oci-archive", "-o", "oci.tar", &image]).ok();
    world.mimeo(["image", "save", "--format", "oci-dir", "-o", "layout", &image]).ok();
    for source in [format!("oci-archive:oci.tar:{image}"), format!("oci:layout:{image}")] {
        assert_eq!(digest_of(&skopeo_manifest(&world, &[], &source)), digest, "{source}");
    }
    world.mimeo(["save", "--format", "docker-dir", "-o", "docker", &image]).ok();
    world.mimeo(["save", "-o", "docker.tar", &image]).ok();
    for source in ["dir:docker".to_owned(), format!("docker-archive:docker.tar:{image}")] {
        let mut copy = world.program("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet", &source, "oci:copied:x"]);
        world.finish(copy).code(0);
        world.mimeo(["run", "--rm", "oci:copied:x", "cat", "/name"]).code(0).printed("first");
    }
    let mut umoci = world.program("umoci");
    umoci.args(["ls", "--layout", "layout"]);
    world.finish(umoci).code(0).printed(&format!("{image}\n"));
}

#[test]
fn save_refuses_what_it_cannot_do() {
    let world = World::new(User::Root);
    let image = pull(&world, "first");
    let terminal = world.mimeo_on_terminal(&["save", &image]).code(125);
    assert!(terminal.stdout.contains("refusing to save to terminal"), "{terminal:?}");
    world.mimeo(["save", "-o", "x.tar", "nothing"]).code(125).stderr_contains("nothing: image not known");
    world.mimeo(["save", "--format", "oci-dir", &image]).code(125).stderr_contains("give --output");
    world.mimeo(["save", "-o", "none/x.tar", &image]).code(125).stderr_contains("none/x.tar");
    // An image whose layers are missing, as after a crash of the disk.
    let layer = inspect(&world, &image)["layers"][0]["digest"].as_str().expect("a digest")[7..].to_owned();
    fs::remove_file(world.home().join("images/blobs/sha256").join(layer)).expect("removed");
    world.mimeo(["save", "-o", "x.tar", &image]).code(125).stderr_contains("pull the image again");
    let left: Vec<_> =
        fs::read_dir(world.files()).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["first"]);
    world.mimeo(["pull", "-q", &format!("oci:{}", world.files().join("first").display())]).ok();
    world.mimeo(["save", "-o", "x.tar", &image]).ok();
}

#[test]
fn an_interrupted_save_leaves_nothing() {
    let world = World::new(User::Root);
    let image = pull(&world, "first");
    let files = || fs::read_dir(world.files()).expect("listed").count();
    let before = files();
    // A prune that does not end: the save waits for it, with its file created.
    let lock = fs::File::options().write(true).open(world.home().join("images/lock")).expect("a lock");
    lock.lock().expect("locked");
    let child = world.spawn(["save", "-o", "x.tar", &image]);
    until("the archive is created", || (files() > before).then_some(()));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    Outcome::wait_for(child).code(130);
    assert_eq!(files(), before);
    drop(lock);
    world.mimeo(["save", "-o", "x.tar", &image]).ok();
}

#[test]
fn archives_are_written_through_devices_pipes_and_links() {
    let world = World::new(User::Root);
    let image = pull(&world, "first");
    let files = world.files();
    let (null, target) = (files.join("null"), world.file("target.tar", "old"));
    let character = rustix::fs::FileType::CharacterDevice;
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, &null, character, 0o600.into(), device).expect("a device");
    std::os::unix::fs::symlink("target.tar", files.join("link.tar")).expect("linked");
    let size = || fs::metadata(&target).expect("there").len();
    for to in ["null", "link.tar"] {
        world.mimeo(["save", "-o", to, &image]).ok();
    }
    assert!(size() > 3);
    fs::write(&target, "old").expect("written");
    for to in ["docker-archive:null", "docker-archive:link.tar"] {
        world.mimeo(["push", "-q", &image, to]).ok();
    }
    assert!(size() > 3);
    assert!(!fs::metadata(&null).expect("there").is_file());
    assert!(fs::symlink_metadata(files.join("link.tar")).expect("there").is_symlink());
    rustix::fs::mkfifoat(rustix::fs::CWD, files.join("pipe"), 0o600.into()).expect("a pipe");
    let mut cat = world.program("sh");
    let mut cat = cat.args(["-c", "cat pipe >piped.tar"]).spawn().expect("it starts");
    world.mimeo(["save", "-o", "pipe", &image]).ok();
    assert!(cat.wait().expect("it ends").success());
    assert_eq!(fs::metadata(files.join("piped.tar")).expect("there").len(), size());
}

#[test]
fn pushed_images_keep_their_digest() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let image = pull(&world, "first");
    let digest = inspect(&world, &image)["digest"].as_str().expect("a digest").to_owned();
    let name = format!("{}/team/app:1", registry.address);
    world.mimeo(["push", "--digestfile", "digest", &image, &name]).ok().printed("");
    assert_eq!(fs::read_to_string(world.files().join("digest")).expect("read"), digest);
    assert_eq!(digest_of(&skopeo_manifest(&world, &[], &format!("docker://{name}"))), digest);
    // By its own name, to another repository of the registry, and again.
    let other = format!("{}/team/other:2", registry.address);
    world.mimeo(["tag", &image, &name, &other]).ok();
    world.mimeo(["image", "push", &other]).ok();
    world.mimeo(["push", "-q", &other, &format!("docker://{other}")]).ok();
    world.mimeo(["rmi", "-f", &image]).ok();
    world.mimeo(["image", "prune", "-a", "-f"]).ok();
    world.mimeo(["run", "--rm", &other, "cat", "/name"]).code(0).printed("first");
    world.mimeo(["push", &other, "oci:pushed:v1"]).ok();
    world.mimeo(["push", &other, "oci-archive:pushed.tar:v1"]).ok();
    for source in ["oci:pushed:v1", "oci-archive:pushed.tar:v1"] {
        assert_eq!(digest_of(&skopeo_manifest(&world, &[], source)), digest, "{source}");
    }
    world.mimeo(["push", &other, "docker-archive:pushed-docker.tar:a/b:1"]).ok();
    world.mimeo(["load", "-i", "pushed-docker.tar"]).ok().printed("Loaded image: docker.io/a/b:1\n");
    let id = inspect(&world, &other)["id"].as_str().expect("an id").to_owned();
    world.mimeo(["push", &id]).code(125).stderr_contains("give a destination");
    world.mimeo(["push", "nothing", &other]).code(125).stderr_contains("nothing: image not known");
    world.mimeo(["push", &other, "127.0.0.1:1/x:1"]).code(125).stderr_contains("cannot be reached");
}

/// A world with a login file of its own.
fn world_with_login_file(user: User) -> World {
    let world = World::new(user);
    let file = world.files().join("auth/auth.json");
    world.with_variable("REGISTRY_AUTH_FILE", file)
}

fn log_in(world: &World, registry: &Registry, password: &str) -> Outcome {
    let args = ["login", "-u", LOGIN.0, "--password-stdin", &registry.address];
    world.mimeo_with_input(args, format!("{password}\n").as_bytes())
}

/// What podman prints for a stored login that is valid.
fn already_logged_in(registry: &Registry) -> String {
    let address = &registry.address;
    format!(
        "Authenticating with existing credentials for {address}\n\
         Existing credentials are valid. Already logged in to {address}\n"
    )
}

/// Logs in on a terminal, on which `typed` is typed.
fn log_in_on_terminal(world: &World, registry: &Registry, typed: &str) -> Outcome {
    let line = format!("{} login {}; stty", e2e::built_program("mimeo").display(), registry.address);
    let mut script = world.program("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
    child.stdin.take().expect("piped").write_all(typed.as_bytes()).expect("typed");
    Outcome::wait_for(child)
}

#[test]
fn a_login_is_verified_stored_and_used() {
    let world = world_with_login_file(User::Root);
    let registry = Registry::start_with_login();
    let image = pull(&world, "first");
    let name = format!("{}/private/app:1", registry.address);
    let file = world.files().join("auth/auth.json");
    world.mimeo(["push", &image, &name]).code(125).stderr_contains("log in");
    log_in(&world, &registry, "wrong").code(125).stderr_contains("invalid username/password");
    assert!(!file.exists());
    world.mimeo(["login", "--get-login", &registry.address]).code(125).stderr_contains("not logged into");
    log_in(&world, &registry, LOGIN.1).ok().printed("Login Succeeded!\n");
    assert_eq!(fs::metadata(&file).expect("stored").permissions().mode() & 0o777, 0o600);
    world.mimeo(["login", "--get-login", &registry.address]).ok().printed("me\n");
    world.mimeo(["login", &registry.address]).ok().printed(&already_logged_in(&registry));
    world.mimeo(["push", &image, &name]).ok();
    // skopeo reads the same file.
    let options = ["--authfile", file.to_str().expect("text")];
    let pushed = digest_of(&skopeo_manifest(&world, &options, &format!("docker://{name}")));
    assert_eq!(pushed, inspect(&world, &image)["digest"]);
    world.mimeo(["rmi", &image]).ok();
    world.mimeo(["run", "--rm", &name, "cat", "/name"]).code(0).printed("first");
    let gone = format!("Removed login credentials for {}\n", registry.address);
    world.mimeo(["logout", &registry.address]).ok().printed(&gone);
    world.mimeo(["logout", &registry.address]).code(125).stderr_contains("not logged into");
    world.mimeo(["pull", &name]).code(125).stderr_contains("log in");
    let creds = format!("{}:{}", LOGIN.0, LOGIN.1);
    world.mimeo(["pull", "-q", "--creds", &creds, &name]).ok();
    let refused = world.mimeo(["push", "--creds", "me:wrong", &name]).code(125).stderr_contains("log in");
    assert!(!refused.stderr.contains("wrong"), "{refused:?}");
}

#[test]
fn an_ordinary_user_logs_in_without_a_runtime_directory() {
    let world = World::new(User::Ordinary);
    let registry = Registry::start_with_login();
    let image = pull(&world, "first");
    log_in(&world, &registry, LOGIN.1).ok();
    let file = world.files().join(".config/containers/auth.json");
    assert_eq!(fs::metadata(&file).expect("stored").permissions().mode() & 0o777, 0o600);
    world.mimeo(["push", &image, &format!("{}/private/app:1", registry.address)]).ok();
    world.mimeo(["logout", &registry.address]).ok();
}

#[test]
fn a_login_is_asked_for_on_a_terminal() {
    let world = world_with_login_file(User::Root);
    let registry = Registry::start_with_login();
    let outcome = log_in_on_terminal(&world, &registry, &format!("{}\n{}\n", LOGIN.0, LOGIN.1)).code(0);
    assert!(outcome.stdout.contains("Username: ") && outcome.stdout.contains("Password: "), "{outcome:?}");
    assert!(outcome.stdout.contains("Login Succeeded!"), "{outcome:?}");
    // The terminal shows again what is typed.
    assert!(!outcome.stdout.contains("-echo "), "{outcome:?}");
    world.mimeo(["login", "--get-login", &registry.address]).ok().printed("me\n");
}

#[test]
fn an_expired_login_is_asked_for_again() {
    let world = world_with_login_file(User::Root);
    let registry = Registry::start_with_login();
    // me:old
    let old = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6b2xk"}}}}}}"#, registry.address);
    let file = world.file("auth/auth.json", &old);
    let refused = world.mimeo(["login", &registry.address]).code(125).stderr_contains("not a terminal");
    assert!(refused.stdout.contains("Existing credentials are invalid"), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), old);
    // Enter takes the stored user.
    let outcome = log_in_on_terminal(&world, &registry, &format!("\n{}\n", LOGIN.1)).code(0);
    assert!(outcome.stdout.contains("Username (me): "), "{outcome:?}");
    assert!(outcome.stdout.contains("Login Succeeded!"), "{outcome:?}");
    world.mimeo(["login", &registry.address]).ok().printed(&already_logged_in(&registry));
}

#[test]
fn a_login_of_a_credential_helper_stays_there() {
    let world = World::new(User::Root);
    let bin = world.files().join("bin");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let world = world.with_variable("PATH", path).with_variable("XDG_RUNTIME_DIR", &bin);
    let registry = Registry::start_with_login();
    let script = format!(
        "#!/bin/sh\nread url\nprintf '{{\"Username\":\"{}\",\"Secret\":\"{}\"}}'\n",
        LOGIN.0, LOGIN.1
    );
    let helper = world.file("bin/docker-credential-test", script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("executable");
    world.file(".docker/config.json", r#"{"credsStore": "test"}"#);
    let stored = bin.join("containers/auth.json");
    world.mimeo(["login", &registry.address]).ok().printed(&already_logged_in(&registry));
    assert!(!stored.exists(), "the helper's secret is stored");
    // The helper's program is gone: a login that needs nothing stored succeeds.
    fs::remove_file(&helper).expect("removed");
    world.mimeo(["login", &registry.address]).code(125).stderr_contains("cannot be started");
    log_in(&world, &registry, LOGIN.1).ok().printed("Login Succeeded!\n");
    assert!(stored.exists());
    world.mimeo(["login", &registry.address]).ok().printed(&already_logged_in(&registry));
}

#[test]
fn a_registry_without_tls_is_used_only_on_request() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let image = pull(&world, "first");
    // The same registry, under an address of this host that is not a loopback address.
    let address = registry.address.replace("127.0.0.1", "0.0.0.0");
    let name = format!("{address}/team/app:1");
    world.mimeo(["push", &image, &name]).code(125).stderr_contains("cannot be reached");
    world.mimeo(["pull", "--tls-verify", &name]).code(125).stderr_contains("cannot be reached");
    world.mimeo(["push", "--tls-verify=false", &image, &name]).ok();
    world.mimeo(["push", "--insecure-registry", &address, &image, &name]).ok();
    world.mimeo(["pull", "-q", "--tls-verify=false", &name]).ok();
    let login = ["login", "-u", "a", "-p", "b", "--authfile", "auth.json"];
    world.mimeo([&login[..], &[&address]].concat()).code(125).stderr_contains("cannot be reached");
    assert!(!world.files().join("auth.json").exists());
    // A registry without logins accepts any.
    let accepted = world.mimeo([&login[..], &["--tls-verify=false", &address]].concat());
    accepted.ok().printed("Login Succeeded!\n");
    world.mimeo(["login", "--get-login", "--authfile", "auth.json", &address]).ok().printed("a\n");
}

#[test]
fn a_login_does_not_harm_the_file() {
    let world = world_with_login_file(User::Root);
    let registry = Registry::start_with_login();
    let file = world.file("auth/auth.json", r#"{"auths": {"other.test": {"auth": "eDp5"}}}"#);
    log_in(&world, &registry, LOGIN.1).ok();
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.contains("other.test") && text.contains(&registry.address), "{text}");
    world.mimeo(["logout", "--all"]).ok().printed("Removed login credentials for all registries\n");
    world.mimeo(["login", "-u", "me", &registry.address]).code(125).stderr_contains("not a terminal");
    world.mimeo(["login", "--password-stdin", &registry.address]).code(125).stderr_contains("--username");
    world
        .mimeo(["login", "-u", "a", "-p", "b", "127.0.0.1:1"])
        .code(125)
        .stderr_contains("cannot be reached");
    fs::write(&file, "not json").expect("written");
    log_in(&world, &registry, LOGIN.1).code(125).stderr_contains("auth.json");
    assert_eq!(fs::read_to_string(&file).expect("read"), "not json");
}

#[test]
fn a_commit_makes_an_image_of_a_machines_changes() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let script = "echo text > /new && rm /bin/md5sum && rm -r /home && mkdir /home && echo own > /home/own";
    world.mimeo(["run", "--name", "job", "-e", "A=1", "-l", "l=1", &image, "sh", "-c", script]).ok();
    let id = world
        .mimeo([
            "commit",
            "-q",
            "-m",
            "a remark",
            "-a",
            "an author",
            "-c",
            "CMD [\"cat\", \"/new\"]",
            "job",
            "mine:2",
        ])
        .ok()
        .text()
        .to_owned();
    let document = world.mimeo(["image", "inspect", "mine:2"]).ok().json()[0].clone();
    assert_eq!(document["id"], json!(format!("sha256:{id}")), "{document:#}");
    assert_eq!(document["config"]["labels"]["l"], "1", "{document:#}");
    world.mimeo(["run", "--rm", "mine:2"]).ok().printed("text\n");
    let check = "echo $A; cat /home/*; test -e /bin/md5sum; echo $?; test -e /home/app; echo $?";
    world.mimeo(["run", "--rm", "mine:2", "sh", "-c", check]).ok().printed("1\nown\n1\n1\n");
    let history = world.mimeo(["history", "--json", "mine:2"]).ok().stdout;
    assert!(history.contains("a remark"), "{history}");
    world.mimeo(["save", "-q", "--format", "oci-dir", "-o", "saved", "mine:2"]).ok();
    world.mimeo(["run", "--rm", "oci:saved", "cat", "/home/own"]).ok().printed("own\n");
    // A commit of a commit, of a running machine, without a name.
    world.start(["--name", "web", "mine:2", "sh", "-c", "echo more > /more; echo done; sleep 1000"]);
    until("the file is there", || (world.mimeo(["logs", "web"]).stdout == "done\n").then_some(()));
    world.mimeo(["commit", "-q", "--iidfile", "id", "web"]).ok();
    let id = fs::read_to_string(world.files().join("id")).expect("written");
    world.mimeo(["run", "--rm", &id, "cat", "/more", "/new"]).ok().printed("more\ntext\n");
    world.mimeo(["commit", "none"]).code(125).stderr_contains("no such container");
    world.mimeo(["commit", "-c", "NONSENSE 1", "web"]).code(125);
    world.mimeo(["commit", "web", "Not/A/Name"]).code(125);
}
