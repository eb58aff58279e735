//! Data that the agent sends as the result of a request.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::Reply;

use crate::error::CliError;

/// The next chunk; `None` at the end. A failure of the guest follows the chunks as a message.
pub(crate) async fn next_chunk(stream: &mut Stream) -> Result<Option<Bytes>, CliError> {
    loop {
        match stream.receiver.next().await? {
            Some(Item::Data { bytes, .. }) if bytes.is_empty() => return Ok(None),
            Some(Item::Data { bytes, .. }) => return Ok(Some(bytes)),
            Some(Item::Message(json)) => check_reply(serde_json::from_slice(&json)?)?,
            None => return Err(CliError::usage("the guest ended its data early")),
        }
    }
}

/// All data, of up to `limit` bytes: the guest may send without end.
pub(crate) async fn read_all(stream: &mut Stream, limit: usize) -> Result<Vec<u8>, CliError> {
    let mut data = Vec::new();
    while let Some(chunk) = next_chunk(stream).await? {
        if chunk.len() > limit - data.len() {
            return Err(CliError::usage(format!("the guest sent more than the limit of {limit} bytes")));
        }
        data.extend_from_slice(&chunk);
    }
    Ok(data)
}

/// The error of a reply that is not `done`.
pub(crate) fn check_reply(reply: Reply) -> Result<(), CliError> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Failed(failure) => Err(failure.into()),
        reply => Err(unexpected_reply(&reply)),
    }
}

pub(crate) fn unexpected_reply(reply: &Reply) -> CliError {
    CliError::usage(format!("unexpected reply from the agent: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::link::{FrameReader, accept, connect};
    use tokio::io::split;

    use super::*;

    /// Reads what a guest sends in two chunks of 4 bytes.
    async fn read_eight_bytes(limit: usize) -> Result<Vec<u8>, CliError> {
        let (host, guest) = tokio::io::duplex(4096);
        let ((host_in, host_out), (guest_in, guest_out)) = (split(host), split(guest));
        let accepting = tokio::spawn(accept(FrameReader::new(guest_in), guest_out, "guest"));
        let (link, _) = connect(host_in, host_out, 1, "host").await.unwrap();
        let mut guest = accepting.await.unwrap().unwrap();
        let mut stream = link.open(&()).unwrap();
        let (_, answer) = guest.incoming.next().await.unwrap();
        for chunk in ["1234", "5678", ""] {
            answer.sender.data(0, Bytes::from(chunk)).await.unwrap();
        }
        read_all(&mut stream, limit).await
    }

    #[tokio::test]
    async fn data_over_the_limit_is_refused() {
        assert_eq!(read_eight_bytes(8).await.unwrap(), b"12345678");
        assert!(read_eight_bytes(7).await.unwrap_err().to_string().contains("limit of 7 bytes"));
        assert!(read_eight_bytes(0).await.is_err());
    }
}
