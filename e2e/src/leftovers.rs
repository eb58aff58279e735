//! Processes and files that outlive a test.

use std::fs;
use std::path::{Path, PathBuf};

/// Running processes of the world at `home`: its path is in their environment
/// or their arguments.
pub(crate) fn processes(home: &Path) -> Vec<(i32, String)> {
    let mark = home.to_string_lossy().into_owned();
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let environment = String::from_utf8_lossy(&read("environ")).into_owned();
            let marked = arguments.contains(&mark) || environment.contains(&mark);
            (marked && is_alive(pid)).then_some((pid as i32, arguments))
        })
        .collect()
}

/// Files of machines, snapshots, servers and forks, except those of boot snapshots.
pub(crate) fn files(home: &Path, run: &Path) -> Vec<PathBuf> {
    let snapshots = home.join("snapshots");
    let is_of_boot = |path: &PathBuf| is_boot_snapshot(&snapshots.join(path.file_name().unwrap_or_default()));
    let mut found: Vec<_> = [
        home.join("machines"),
        home.join("serves"),
        home.join("forks"),
        run.join("machines"),
        run.join("serves"),
    ]
    .iter()
    .flat_map(|dir| entries(dir))
    .collect();
    let boots = entries(&home.join("memory"));
    found.extend(
        boots
            .iter()
            .flat_map(|boot| entries(boot))
            .filter(|memory| name(memory) != ".laying" && !is_of_boot(memory)),
    );
    let boots = entries(&home.join("stencils"));
    found.extend(boots.iter().flat_map(|boot| entries(boot)).filter(|stencil| {
        let name = name(stencil);
        let snapshot = name.trim_start_matches(".making-");
        !is_of_boot(&snapshots.join(snapshot))
    }));
    found.extend(entries(&home.join("working-sets")).into_iter().filter(|set| !is_of_boot(set)));
    found.extend(entries(&run.join("verified")).into_iter().filter(|record| !is_of_boot(record)));
    found.extend(entries(&snapshots).into_iter().filter(|path| !is_of_boot(path) && !is_housekeeping(path)));
    found.extend(
        entries(&snapshots.join(".tags")).into_iter().filter(|tag| !name(tag).starts_with("runtime-")),
    );
    found.extend(entries(run).into_iter().filter(|path| name(path).starts_with("runtime-")));
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Tags are checked separately; a boot snapshot's lock file remains beside it.
fn is_housekeeping(path: &Path) -> bool {
    name(path) == ".tags" || name(path).starts_with(".building-runtime-")
}

fn is_boot_snapshot(snapshot: &Path) -> bool {
    let manifest = fs::read(snapshot.join("manifest.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&manifest).is_ok_and(|manifest| manifest["kind"] == "runtime")
}

/// Whether any thread of the process runs. The first one may have ended before the others, which still hold files and locks.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
    // The third and the twentieth field (proc_pid_stat(5)).
    let (state, threads) = (fields.first(), fields.get(17).and_then(|threads| threads.parse::<u32>().ok()));
    match state {
        None | Some(&"X") => false,
        Some(&"Z") => threads.is_some_and(|threads| threads > 1),
        Some(_) => true,
    }
}
