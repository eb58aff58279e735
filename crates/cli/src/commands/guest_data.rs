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

/// All data.
pub(crate) async fn read_all(stream: &mut Stream) -> Result<Vec<u8>, CliError> {
    let mut data = Vec::new();
    while let Some(chunk) = next_chunk(stream).await? {
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
