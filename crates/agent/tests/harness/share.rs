//! The host's end of a volume: one flat directory in memory, served by raw FUSE messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{Reply, Request, Volume};

use super::Vm;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
const HEADER: usize = 40;
const ROOT: u64 = 1;

/// A directory of files.
#[derive(Clone, Default)]
pub struct Share(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    /// Names and contents. A file's node id is its index plus two.
    files: BTreeMap<String, Vec<u8>>,
    callers: Vec<(u32, u32)>,
    /// Whether requests are left without a reply.
    unanswering: bool,
}

impl Share {
    pub fn put(&self, name: &str, content: &[u8]) {
        self.lock().files.insert(name.into(), content.into());
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.lock().files.get(name).cloned().unwrap_or_default()
    }

    /// Leaves all further requests without a reply.
    pub fn stop_answering(&self) {
        self.lock().unanswering = true;
    }

    /// All users that have looked up a path.
    pub fn callers(&self) -> Vec<(u32, u32)> {
        let mut callers = self.lock().callers.clone();
        callers.sort_unstable();
        callers.dedup();
        callers
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("not poisoned")
    }
}

/// Mounts the share in a machine, as a host with UID 1000 and GID 100.
pub async fn serve(vm: &Vm, share: &Share, target: &str, file: Option<&str>, read_only: bool) {
    let file = file.map(str::to_owned);
    let volume = Volume { target: target.into(), read_only, file, owner_uid: 1000, owner_gid: 100 };
    let mut stream = vm.open(&Request::Volume(volume));
    let (ready, wait) = tokio::sync::oneshot::channel();
    let share = share.clone();
    tokio::spawn(async move { pump(&mut stream, &share, ready).await });
    assert_eq!(wait.await.expect("an answer"), Reply::Done, "{}", vm.console());
}

async fn pump(stream: &mut Stream, share: &Share, ready: tokio::sync::oneshot::Sender<Reply>) {
    let mut ready = Some(ready);
    let mut bytes = Vec::new();
    while let Ok(Some(item)) = stream.receiver.next().await {
        match item {
            Item::Message(json) => {
                let reply = serde_json::from_slice(&json).expect("a reply");
                ready.take().expect("one reply").send(reply).expect("a receiver");
            }
            Item::Data { bytes: more, .. } => bytes.extend_from_slice(&more),
        }
        while bytes.len() >= HEADER && bytes.len() >= word(&bytes, 0) as usize {
            let request: Vec<u8> = bytes.drain(..word(&bytes, 0) as usize).collect();
            let answer = answer(&mut share.lock(), &request);
            if let Some(answer) = answer {
                stream.sender.data(0, Bytes::from(answer)).await.ok();
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A sequence of integers in the kernel's layout.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn words(mut self, values: &[u32]) -> Self {
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    /// Every file belongs to the host's user, and to a group that is not swapped.
    fn attributes(self, node: u64, size: usize) -> Self {
        let mode = if node == ROOT { 0o040_755 } else { 0o100_644 };
        self.long(node)
            .long(size as u64)
            .long(0)
            .long(0)
            .long(0)
            .long(0)
            .words(&[0, 0, 0, mode, 1, 1000, 7, 0, 4096, 0])
    }
}

fn answer(share: &mut Files, request: &[u8]) -> Option<Vec<u8>> {
    let (opcode, unique, node) = (word(request, 4), long(request, 8), long(request, 16));
    let body = &request[HEADER..];
    if share.unanswering {
        return None;
    }
    let result = match opcode {
        2 | 36 | 42 => return None,
        1 => lookup(share, request),
        3 | 4 => Ok(Out::default().long(1).words(&[0, 0]).attributes(node, size(share, node)).0),
        14 | 27 => Ok(Out::default().long(node).words(&[0, 0]).0),
        15 => Ok(read(share, node, long(body, 8) as usize, word(body, 16) as usize)),
        16 => Ok(write(share, node, long(body, 8) as usize, &body[40..])),
        18 | 25 | 29 => Ok(Vec::new()),
        // init: version 7.31, no features, the default sizes.
        26 => Ok(Out::default().words(&[7, 31, 65536, 0, 0, 131_072, 1]).words(&[0; 9]).0),
        28 => Ok(list(share, long(body, 8) as usize)),
        _ => Err(ENOSYS),
    };
    let (error, content) = match result {
        Ok(content) => (0, content),
        Err(errno) => (-errno, Vec::new()),
    };
    let mut answer = Out::default().words(&[(16 + content.len()) as u32, error as u32]).long(unique).0;
    answer.extend_from_slice(&content);
    Some(answer)
}

fn lookup(share: &mut Files, request: &[u8]) -> Result<Vec<u8>, i32> {
    share.callers.push((word(request, 24), word(request, 28)));
    let name = String::from_utf8_lossy(&request[HEADER..request.len() - 1]).into_owned();
    let index = share.files.keys().position(|file| *file == name).ok_or(ENOENT)?;
    let node = index as u64 + 2;
    Ok(Out::default().long(node).long(0).long(1).long(1).words(&[0, 0]).attributes(node, size(share, node)).0)
}

fn content(share: &mut Files, node: u64) -> Option<&mut Vec<u8>> {
    share.files.values_mut().nth((node as usize).checked_sub(2)?)
}

fn size(share: &mut Files, node: u64) -> usize {
    content(share, node).map_or(0, |content| content.len())
}

fn read(share: &mut Files, node: u64, offset: usize, length: usize) -> Vec<u8> {
    content(share, node)
        .map(|content| content.iter().skip(offset).take(length).copied().collect())
        .unwrap_or_default()
}

fn write(share: &mut Files, node: u64, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let content = content(share, node).expect("a file");
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    Out::default().words(&[bytes.len() as u32, 0]).0
}

fn list(share: &Files, offset: usize) -> Vec<u8> {
    let mut out = Out::default();
    for (index, name) in share.files.keys().enumerate().skip(offset) {
        out = out.long(index as u64 + 2).long(index as u64 + 1).words(&[name.len() as u32, 8]);
        out.0.extend_from_slice(name.as_bytes());
        out.0.resize(out.0.len().next_multiple_of(8), 0);
    }
    out.0
}
