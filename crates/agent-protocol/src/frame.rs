//! One frame: a header of 16 bytes, then its payload.
//!
//! ```text
//! 0        4        8    9        10       12       16
//! +--------+--------+----+--------+--------+--------+---------
//! | sess.  | stream |kind|channel | 0      | length | payload
//! +--------+--------+----+--------+--------+--------+---------
//! ```
//! All numbers are little-endian. `length` counts payload bytes.

use bytes::Bytes;

/// Bytes of a header.
pub const HEADER: usize = 16;
/// Largest payload of a data frame: a page-aligned size that keeps one busy
/// stream from holding the channel for long.
pub const MAX_DATA: usize = 64 * 1024;
/// Largest payload of an open or a message frame: enough for a long environment.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// The bytes before a hello. Parsed as a header, its session would be
/// [`NO_SESSION`], which no frame may carry.
pub const PREAMBLE: [u8; 16] = *b"\xff\xff\xff\xffmimeo-link\r\n";
/// A number that is never a session's.
pub const NO_SESSION: u32 = u32::MAX;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Begins a session; follows a [`PREAMBLE`].
    Hello = 0,
    /// Opens the stream; the payload is the request, as JSON.
    Open = 1,
    /// A message on the stream, as JSON.
    Message = 2,
    /// Raw bytes on a channel of the stream; an empty payload ends the channel.
    Data = 3,
    /// The receiver can take that many more data bytes (payload: u32).
    Credit = 4,
    /// The sender sends nothing more on this stream.
    End = 5,
    /// The sender neither sends nor reads on this stream from now on.
    Reset = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Hello, Self::Open, Self::Message, Self::Data, Self::Credit, Self::End, Self::Reset]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    fn limit(self) -> usize {
        match self {
            Self::Data => MAX_DATA,
            Self::Hello | Self::Open | Self::Message => MAX_MESSAGE,
            Self::Credit => 4,
            Self::End | Self::Reset => 0,
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The number of the session that the frame belongs to.
    pub session: u32,
    /// The stream; 0 belongs to the session itself.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// The channel of the stream, for data.
    pub channel: u8,
    /// Bytes of payload.
    pub length: u32,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The number of the session that the frame belongs to.
    pub session: u32,
    /// The stream; 0 belongs to the session itself.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// The channel of the stream, for data.
    pub channel: u8,
    /// The payload.
    pub payload: Bytes,
}

/// Why sixteen bytes are not a valid header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are a preamble: a new session begins.
    #[error("a new session begins")]
    Preamble,
    /// The frame's kind is unknown.
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    /// The reserved bytes are not zero, or the session is [`NO_SESSION`].
    #[error("malformed frame header")]
    Malformed,
    /// The payload is longer than the kind allows.
    #[error("{kind:?} frame of {length} bytes")]
    TooLong {
        /// The frame's kind.
        kind: Kind,
        /// The length in its header.
        length: u32,
    },
}

impl Header {
    /// Parses and validates a header.
    ///
    /// # Errors
    /// When the bytes are a preamble, or not a valid header.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, HeaderError> {
        if *bytes == PREAMBLE {
            return Err(HeaderError::Preamble);
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let kind = Kind::from_byte(bytes[8]).ok_or(HeaderError::Kind(bytes[8]))?;
        let header = Self { session: word(0), stream: word(4), kind, channel: bytes[9], length: word(12) };
        if header.session == NO_SESSION || bytes[10..12] != [0, 0] {
            return Err(HeaderError::Malformed);
        }
        if header.length as usize > kind.limit() {
            return Err(HeaderError::TooLong { kind, length: header.length });
        }
        Ok(header)
    }
}

impl Frame {
    /// The header that precedes this frame's payload.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.session.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes[9] = self.channel;
        bytes[12..16].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_preamble_is_never_a_header() {
        assert_eq!(Header::parse(&PREAMBLE), Err(HeaderError::Preamble));
    }

    #[test]
    fn a_frame_too_long_for_its_kind_is_refused() {
        let mut bytes =
            Frame { session: 1, stream: 1, kind: Kind::End, channel: 0, payload: Bytes::new() }.header();
        bytes[12] = 1;
        assert_eq!(Header::parse(&bytes), Err(HeaderError::TooLong { kind: Kind::End, length: 1 }));
    }

    proptest! {
        #[test]
        fn a_header_round_trips(session in 0..NO_SESSION, stream: u32, channel: u8, length in 0..MAX_DATA) {
            let payload = Bytes::from(vec![0; length]);
            let frame = Frame { session, stream, kind: Kind::Data, channel, payload };
            let header = Header::parse(&frame.header()).expect("own header");
            prop_assert_eq!(header, Header { session, stream, kind: Kind::Data, channel, length: length as u32 });
        }

        #[test]
        fn noise_never_panics(bytes: [u8; HEADER]) {
            drop(Header::parse(&bytes));
        }
    }
}
