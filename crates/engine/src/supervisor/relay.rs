//! Joins a client's stream to a guest's.

use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};

/// Passes everything on, both ways, until the guest has said all or the client
/// goes away; then both streams are left.
pub(super) async fn relay(client: Stream, guest: Stream) {
    let Stream { sender: to_client, receiver: mut from_client } = client;
    let Stream { sender: to_guest, receiver: mut from_guest } = guest;
    let to_guest_side = async {
        // It has no more to say, or nobody takes it any more; it may still listen.
        forward(&mut from_client, to_guest).await.ok();
        from_client.wait_for_reset().await;
    };
    tokio::select! {
        // Either way there is nobody left to tell how it went.
        _ = forward(&mut from_guest, to_client) => {}
        () = to_guest_side => {}
    }
}

async fn forward(from: &mut Receiver, to: Sender) -> Result<(), LinkError> {
    while let Some(item) = from.next().await? {
        match item {
            Item::Message(json) => to.raw_message(json).await?,
            Item::Data { channel, bytes } => to.data(channel, bytes).await?,
        }
    }
    Ok(())
}
