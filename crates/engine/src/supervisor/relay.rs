//! Connects a client's stream to one of the guest's.

use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};

/// Forwards messages in both directions until the guest ends its stream or the client disconnects; then
/// drops both streams.
pub(super) async fn relay(client: Stream, guest: Stream) {
    let Stream { sender: to_client, receiver: mut from_client } = client;
    let Stream { sender: to_guest, receiver: mut from_guest } = guest;
    let to_guest_side = async {
        // The client has ended its direction, or the guest has stopped reading; the client may still read.
        forward(&mut from_client, to_guest).await.ok();
        from_client.wait_for_reset().await;
    };
    tokio::select! {
        // The result does not matter: one side is gone.
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
