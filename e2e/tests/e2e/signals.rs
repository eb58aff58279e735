//! Signals by name: of images, of options, of `kill`.

use e2e::{Image, User, World, until};
use serde_json::json;

#[test]
fn stop_signals_have_names() {
    let world = World::new(User::Root);
    let script = "trap 'exit 5' 37; trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done";
    let image = |name: &str, signal: &str| {
        world.image(
            &Image::busybox(name)
                .config("StopSignal", json!(signal))
                .config("Cmd", json!(["sh", "-c", script])),
        )
    };
    let is_up = |name: &str| world.mimeo(["logs", name]).stdout.contains("up").then_some(());
    let images = image("image", "SIGRTMIN+3");
    world.start(["--name", "image", &images]);
    world.start(["--name", "option", "--stop-signal", "RTMIN+3", &image("option", "SIGBOGUS")]);
    world.start(["--name", "kill", &images]);
    for name in ["image", "option", "kill"] {
        until("the handler is set", || is_up(name));
    }
    assert_eq!(world.inspect("image")["Config"]["StopSignal"], "SIGRTMIN+3");
    world.mimeo(["stop", "image", "option"]).ok();
    world.mimeo(["kill", "-s", "SIGRTMAX-27", "kill"]).ok();
    world.mimeo(["wait", "image", "option", "kill"]).ok().printed("5\n5\n5\n");
    let bogus = world.mimeo(["run", "--rm", &image("bogus", "SIGBOGUS")]).code(125);
    bogus.stderr_contains("its stop signal \"SIGBOGUS\" is unknown: use --stop-signal");
    world.mimeo(["kill", "-s", "RTMIN+99", "image"]).code(125).stderr_contains("is not a signal");
}
