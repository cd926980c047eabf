//! What a worker and the server say to each other; see `python/forebay_driver/channel.py`.

use forebay_exec::{CellStatus, MimeBundle, StreamName};
use serde::Deserialize;
use serde_json::Value;

/// Beyond this a frame is taken for garbage: twice the default limit of a cell's output, and
/// some room. A program can write frames of its own, and what they need here no limit of the run
/// covers. The driver keeps below it, see `channel.py`.
const FRAME_BYTES_MAX: usize = 41 << 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    pub(crate) cell: usize,
    #[serde(flatten)]
    pub(crate) kind: FrameKind,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(crate) enum FrameKind {
    Start,
    Stream {
        name: StreamName,
        text: String,
    },
    Display {
        data: MimeBundle,
        metadata: MimeBundle,
        display_id: Option<String>,
    },
    Update {
        data: MimeBundle,
        metadata: MimeBundle,
        display_id: Option<String>,
    },
    Clear {
        wait: bool,
    },
    Result {
        data: MimeBundle,
        metadata: MimeBundle,
        count: u32,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
    /// A Spark engine works for the run from now on.
    Engine {
        name: String,
    },
    Finish {
        status: CellStatus,
        ms: u64,
    },
    Call {
        id: u64,
        method: String,
        args: Value,
    },
    Done {
        ok: bool,
        exit_value: Option<String>,
        /// An interrupt landed, even if the program went on as if nothing had been.
        interrupted: bool,
        #[serde(default)]
        ename: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        trace: String,
        /// A script or wheel imported packages that a parent of notebooks has imported already.
        #[serde(default)]
        packages: bool,
    },
}

/// Bytes in, frames out.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// How much of `buffer` has been given out as frames.
    taken: usize,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or what is wrong with the bytes.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        let rest = &self.buffer[self.taken..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(body) = body.get(..length) else {
            return Ok(None);
        };
        let frame = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        self.taken += 4 + length;
        Ok(Some(frame))
    }
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let body = value.to_string().into_bytes();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let mut bytes = encode(&serde_json::json!({"t": "start", "cell": 3}));
        bytes.extend(encode(&serde_json::json!(
            {"t": "stream", "cell": 3, "name": "stdout", "text": "é\n"}
        )));
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert!(matches!(
            &frames[0],
            Frame {
                cell: 3,
                kind: FrameKind::Start
            }
        ));
        let FrameKind::Stream { text, .. } = &frames[1].kind else {
            panic!("{:?}", frames[1]);
        };
        assert_eq!(text, "é\n");
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn a_frame_has_a_limit() {
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
        let mut decoder = Decoder::default();
        decoder.push(&length(FRAME_BYTES_MAX));
        assert!(decoder.next_frame().unwrap().is_none());
        let mut decoder = Decoder::default();
        decoder.push(&length(FRAME_BYTES_MAX + 1));
        assert!(decoder.next_frame().is_err());
    }

    #[test]
    fn garbage_is_an_error_and_not_a_wait_for_gigabytes() {
        let mut decoder = Decoder::default();
        decoder.push(b"garbage!");
        assert!(decoder.next_frame().is_err());
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 2, b'{', b'!']);
        assert!(decoder.next_frame().is_err());
    }
}
