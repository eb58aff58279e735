//! QMP, one command at a time.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    pub(super) fn connect(stream: UnixStream) -> io::Result<Self> {
        let mut qmp = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        qmp.read_line()?;
        qmp.call("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    pub(super) fn call(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.writer.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut reply = self.read_line()?;
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            // Everything else is an event.
            if let Some(error) = reply.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
        }
    }

    fn read_line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}
