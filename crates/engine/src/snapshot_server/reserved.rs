//! Clones of the pool that a client has reserved: it knows their ids before they run.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Sender, Stream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::request_dispatcher::{ReleaseRequest, ServeReply};
use super::served_clone::ServedClone;
use crate::id::MachineId;
use crate::launch_request::Release;

/// Releases the clones as the client requests it. When the client is gone, or the server ends, the remaining ones end.
pub(super) async fn release_on_request(
    mut clones: Vec<ServedClone>,
    stream: Stream,
    mut end: watch::Receiver<bool>,
) {
    let Stream { sender, mut receiver } = stream;
    let (sender, mut releases) = (Arc::new(sender), JoinSet::new());
    loop {
        let item = tokio::select! {
            item = receiver.next() => item,
            _ = end.wait_for(|end| *end) => break,
        };
        match item {
            Ok(Some(Item::Message(json))) => release(&mut clones, &json, &sender, &mut releases),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    for clone in clones {
        clone.abandon().await;
    }
    // The receiver is kept until then: without it, the replies would be lost.
    while releases.join_next().await.is_some() {}
}

fn release(clones: &mut Vec<ServedClone>, json: &Bytes, sender: &Arc<Sender>, releases: &mut JoinSet<()>) {
    let ReleaseRequest { index, id, overrides } = match serde_json::from_slice(json) {
        Ok(request) => request,
        Err(error) => {
            return sender.message(&ServeReply::refused(0, format!("unreadable request: {error}")));
        }
    };
    let Some(place) = clones.iter().position(|clone| MachineId::try_from(clone.id.clone()) == Ok(id.clone()))
    else {
        return sender.message(&ServeReply::refused(index, format!("clone {} is not reserved", id.short())));
    };
    let (mut clone, sender) = (clones.swap_remove(place), sender.clone());
    releases.spawn(async move {
        let released = clone.supervisor.release(&Release::ProceedAlone(overrides)).await;
        sender.message(&ServeReply::new(index, released));
    });
}
