//! The manager is killed again and again while clients use it. Nothing is lost, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use e2e::{Answer, Client, Manager, User, World, until};
use serde_json::{Value, json};

/// How often the manager is killed.
const KILLS: usize = 50;
/// Clients that create, change and remove machines.
const CLIENTS: usize = 3;
/// Machines that a client has at most.
const MAX_MACHINES: usize = 2;

/// What one client knows.
#[derive(Debug, Default)]
struct Ledger {
    /// Machines whose creation was confirmed, by name: their ids.
    confirmed: BTreeMap<String, String>,
    /// Names of machines of whose creation or removal nothing was heard.
    doubtful: BTreeSet<String>,
    /// Ids of machines whose removal was confirmed.
    removed: BTreeSet<String>,
}

/// Pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One client and its machines.
struct Load<'a> {
    client: &'a RwLock<Client>,
    requests: &'a AtomicUsize,
    image: &'a str,
    name: String,
    ledger: Ledger,
    dice: Dice,
    created: usize,
}

impl Load<'_> {
    /// Sends a request; `None` if the manager was killed before it had answered.
    fn send(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let body = serde_json::to_vec(body).expect("JSON");
        let answer = until("there is a manager", || {
            let client = self.client.read().expect("a lock").clone();
            match client.try_send(method, path, &[("content-type", "application/json")], &body) {
                // Nothing was sent.
                Err(error) if is_refused(&error) => None,
                other => Some(other.ok()),
            }
        });
        self.requests.fetch_add(usize::from(answer.is_some()), Ordering::Relaxed);
        answer
    }

    fn step(&mut self) {
        match self.dice.below(10) {
            0..=3 if self.ledger.confirmed.len() < MAX_MACHINES => self.create(),
            0..=4 => self.remove(),
            5 | 6 => self.stop_or_start(),
            7 | 8 => self.exec(),
            _ if !self.ledger.doubtful.is_empty() => self.resolve_doubt(),
            _ => drop(self.send("GET", "/v1/vms", &Value::Null)),
        }
    }

    fn create(&mut self) {
        self.created += 1;
        let name = format!("{}-{}", self.name, self.created);
        let request = json!({ "name": name, "image": self.image, "command": ["sleep", "100000"] });
        match self.send("POST", "/v1/containers?wait=60", &request) {
            Some(answer) => {
                let machine = answer.ok(201).json()["item"].clone();
                self.ledger.confirmed.insert(name, machine["id"].as_str().expect("an id").to_owned());
            }
            None => drop(self.ledger.doubtful.insert(name)),
        }
    }

    /// One of the client's machines.
    fn choose(&mut self) -> Option<(String, String)> {
        let count = self.ledger.confirmed.len() as u64;
        let index = if count == 0 { return None } else { self.dice.below(count) };
        let (name, id) = self.ledger.confirmed.iter().nth(usize::try_from(index).expect("small"))?;
        Some((name.clone(), id.clone()))
    }

    fn remove(&mut self) {
        let Some((name, id)) = self.choose() else { return };
        self.ledger.confirmed.remove(&name);
        match self.send("DELETE", &format!("/v1/vms/{name}?wait=60"), &Value::Null) {
            Some(answer) => {
                answer.ok(200);
                self.ledger.removed.insert(id);
            }
            None => drop(self.ledger.doubtful.insert(name)),
        }
    }

    /// Removes a machine that may exist, and may not.
    fn resolve_doubt(&mut self) {
        let Some(name) = self.ledger.doubtful.first().cloned() else { return };
        let Some(answer) = self.send("DELETE", &format!("/v1/vms/{name}?wait=60"), &Value::Null) else {
            return;
        };
        match answer.status {
            // The manager that was killed had not recorded the creation, or has recorded the removal; or the next one has just
            // carried that out.
            404 | 410 => {}
            _ => drop(answer.ok(200)),
        }
        self.ledger.doubtful.remove(&name);
    }

    fn stop_or_start(&mut self) {
        let Some((name, _)) = self.choose() else { return };
        let action = ["stop?timeout=0&wait=60", "start?wait=60", "restart?timeout=0"]
            [usize::try_from(self.dice.below(3)).expect("small")];
        if let Some(answer) = self.send("POST", &format!("/v1/vms/{name}/{action}"), &json!({})) {
            // An operation whose answer was lost may still be under way.
            assert!([200, 202, 409].contains(&answer.status), "{answer:?}");
        }
    }

    fn exec(&mut self) {
        let Some((name, id)) = self.choose() else { return };
        let request = json!({ "command": ["hostname"] });
        let Some(answer) = self.send("POST", &format!("/v1/vms/{name}/exec"), &request) else { return };
        if answer.status == 200 {
            assert_eq!(answer.json()["item"]["stdout"], format!("{}\n", &id[..12]), "{answer:?}");
        } else {
            assert!([409, 502].contains(&answer.status), "{answer:?}");
        }
    }
}

fn is_refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
        || matches!(error, ureq::Error::ConnectionFailed)
}

/// The ids of all machines, by the command line.
fn ids_of_command_line(world: &World) -> BTreeSet<String> {
    world.mimeo(["ps", "-a", "-q", "--no-trunc"]).ok().text().lines().map(str::to_owned).collect()
}

/// All machines, by the manager.
fn machines_of(client: &Client) -> Vec<Value> {
    client.get("/v1/vms?limit=1000").ok(200).json()["items"].as_array().expect("a list").clone()
}

/// Waits until no operation is under way.
fn settle(client: &Client) {
    until("all operations have finished", || {
        let running = client.get("/v1/operations?status=running").ok(200).json();
        running["items"].as_array().expect("a list").is_empty().then_some(())
    });
}

fn check(world: &World, client: &Client, ledgers: &[Ledger]) {
    let machines = machines_of(client);
    let ids: BTreeSet<String> =
        machines.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect();
    let by_command_line = ids_of_command_line(world);
    let differing: Vec<_> = ids.symmetric_difference(&by_command_line).collect();
    let details =
        machines.iter().filter(|item| differing.iter().any(|id| item["id"] == ***id)).collect::<Vec<_>>();
    assert!(
        differing.is_empty(),
        "the manager and the command line do not see the same machines: {differing:?} {details:#?}"
    );
    let by_name = |name: &str| machines.iter().find(|item| item["name"] == name);
    for ledger in ledgers {
        for (name, id) in &ledger.confirmed {
            let found = by_name(name).unwrap_or_else(|| panic!("{name} is lost: {machines:#?}"));
            assert_eq!(found["id"], **id, "{found}");
            assert!(["running", "exited"].iter().any(|state| found["state"] == *state), "{found}");
        }
        for id in &ledger.removed {
            assert!(!ids.contains(id), "{id} was removed");
        }
    }
    let known = |name: &str| {
        ledgers.iter().any(|all| all.confirmed.contains_key(name) || all.doubtful.contains(name))
    };
    for machine in &machines {
        let name = machine["name"].as_str().expect("a name");
        assert!(name == "keeper" || known(name), "nobody has created {machine}");
    }
}

#[test]
fn killing_the_manager_loses_nothing() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let mut manager = Manager::start(&world, &[]);
    let token = manager.admin().token().to_owned();
    // A client that does not use the manager is not disturbed.
    let keeper = world.start(["--name", "keeper", &image, "sleep", "100000"]);
    let mut command = world.command(["exec", "-i", "keeper", "cat"]);
    let mut direct = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("mimeo starts");
    let client = RwLock::new(manager.client(&token));
    let (requests, end) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ledgers = Mutex::new(Vec::new());
    let manager = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (client, requests, image, end, ledgers) = (&client, &requests, &*image, &end, &ledgers);
            scope.spawn(move || {
                let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1));
                let name = format!("c{number}");
                let mut load =
                    Load { client, requests, image, name, ledger: Ledger::default(), dice, created: 0 };
                while !end.load(Ordering::Relaxed) {
                    load.step();
                }
                ledgers.lock().expect("a lock").push(load.ledger);
            });
        }
        let mut dice = Dice(42);
        for _ in 0..KILLS {
            let before = requests.load(Ordering::Relaxed);
            until("requests are answered", || (requests.load(Ordering::Relaxed) > before + 2).then_some(()));
            // At any moment of what the clients do.
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            manager.kill();
            manager = Manager::start(&world, &[]);
            *client.write().expect("a lock") = manager.client(&token);
        }
        end.store(true, Ordering::Relaxed);
        manager
    });
    let client = client.into_inner().expect("a lock");
    settle(&client);
    check(&world, &client, &ledgers.into_inner().expect("a lock"));
    assert_eq!(client.get("/v1/vms/keeper").ok(200).json()["item"]["id"], keeper);
    std::io::Write::write_all(&mut direct.stdin.take().expect("piped"), b"still there\n").expect("written");
    let mut output = String::new();
    direct.stdout.take().expect("piped").read_to_string(&mut output).expect("read");
    assert_eq!(output, "still there\n");
    assert!(direct.wait().expect("ended").success());
    for machine in machines_of(&client) {
        client.delete(&format!("/v1/vms/{}?wait=60", machine["id"].as_str().expect("an id"))).ok(200);
    }
    manager.end();
    world.assert_empty();
}
