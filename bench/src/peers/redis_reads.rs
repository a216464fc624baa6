//! Reads from Redis by a client that loses no time: few connections shared by all who ask, commands that are waiting go
//! out together, answers are taken apart where they lie. Nobody waits for a pipeline to fill.

use std::collections::VecDeque;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection(mpsc::UnboundedSender<Question>);

struct Question {
    command: Bytes,
    answer: oneshot::Sender<Bytes>,
}

/// Most commands that go out together.
const TOGETHER: usize = 512;

impl Connection {
    /// Connects to `host:port`; ends when the last clone is dropped.
    pub async fn open(address: &str) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(address).await.context("connecting to Redis")?;
        socket.set_nodelay(true)?;
        let (send, questions) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            if let Err(error) = converse(socket, questions).await {
                eprintln!("a connection to Redis broke: {error:#}");
            }
        });
        Ok(Connection(send))
    }

    /// Sends a command and gives the values of its answer, in order; one that is not there is empty.
    pub async fn ask(&self, command: Bytes) -> anyhow::Result<Vec<Bytes>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Question { command, answer }).ok().context("the connection to Redis broke")?;
        values(&answered.await.context("the connection to Redis broke")?)
    }
}

async fn converse(
    mut socket: TcpStream,
    mut questions: mpsc::UnboundedReceiver<Question>,
) -> anyhow::Result<()> {
    let (mut together, mut waiting) = (Vec::with_capacity(TOGETHER), VecDeque::new());
    let (mut out, mut answers) = (Vec::new(), BytesMut::new());
    loop {
        // Room for many answers: each time there is none the rest is moved.
        if answers.capacity() - answers.len() < 64 << 10 {
            answers.reserve(1 << 20);
        }
        tokio::select! {
            taken = questions.recv_many(&mut together, TOGETHER) => {
                if taken == 0 {
                    return Ok(());
                }
                for Question { command, answer } in together.drain(..) {
                    out.extend_from_slice(&command);
                    waiting.push_back(answer);
                }
                socket.write_all(&out).await?;
                out.clear();
            }
            read = socket.read_buf(&mut answers) => {
                if read? == 0 {
                    ensure!(waiting.is_empty(), "Redis closed the connection");
                    return Ok(());
                }
                while let Some(length) = answer_length(&answers)? {
                    let answer = answers.split_to(length).freeze();
                    // Who asked may have gone.
                    waiting.pop_front().context("an answer to nothing")?.send(answer).ok();
                }
            }
        }
    }
}

/// Bytes of the first answer, if all of it is there.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some((kind, number, mut at)) = head(bytes, 0)? else { return Ok(None) };
    let bulks = match kind {
        b'*' => number,
        b'$' => {
            at = 0;
            1
        }
        _ => return Ok(Some(at)),
    };
    for _ in 0..bulks {
        let Some((_, length, after)) = head(bytes, at)? else { return Ok(None) };
        at = if length < 0 { after } else { after + length as usize + 2 };
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The values of a whole answer.
fn values(answer: &Bytes) -> anyhow::Result<Vec<Bytes>> {
    let (kind, number, after) = head(answer, 0)?.context("an empty answer")?;
    let (bulks, mut at) = if kind == b'*' { (number, after) } else { (1, 0) };
    let mut values = Vec::with_capacity(bulks.max(0) as usize);
    for _ in 0..bulks {
        let (kind, length, after) = head(answer, at)?.context("an answer that stops")?;
        ensure!(kind == b'$', "not a value: {answer:?}");
        let end = after + length.max(0) as usize;
        values.push(answer.slice(after..end));
        at = if length < 0 { after } else { end + 2 };
    }
    Ok(values)
}

/// Kind and number of the line at `at`, and where the next begins; nothing if its end is not there yet.
fn head(bytes: &[u8], at: usize) -> anyhow::Result<Option<(u8, i64, usize)>> {
    let Some(line) = bytes.get(at..) else { return Ok(None) };
    let Some(length) = line.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let text = std::str::from_utf8(&line[..length])?.trim_end();
    if text.starts_with('-') {
        bail!("Redis: {text}");
    }
    let number = text.get(1..).and_then(|number| number.parse().ok()).unwrap_or(0);
    Ok(Some((line[0], number, at + length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(answer: &'static [u8]) -> Vec<Bytes> {
        values(&Bytes::from_static(answer)).expect("whole")
    }

    #[test]
    fn values_are_taken_from_answers_of_both_kinds() {
        assert_eq!(all(b"$5\r\nva\r\nl\r\n"), ["va\r\nl"]);
        assert_eq!(all(b"*3\r\n$1\r\na\r\n$-1\r\n$2\r\nbc\r\n"), ["a", "", "bc"]);
        assert_eq!(all(b"$-1\r\n"), [""]);
    }

    #[test]
    fn an_answer_is_whole_only_when_all_of_it_is_there() {
        for answer in [&b"*3\r\n$1\r\na\r\n$-1\r\n$12\r\n0123456789ab\r\n"[..], b"$3\r\nabc\r\n", b"+OK\r\n"]
        {
            for cut in 0..answer.len() {
                assert_eq!(answer_length(&answer[..cut]).unwrap(), None, "{cut} bytes of {answer:?}");
            }
            let more = [answer, b"$1\r\n"].concat();
            assert_eq!(answer_length(&more).unwrap(), Some(answer.len()));
        }
        assert!(answer_length(b"-ERR no\r\n").unwrap_err().to_string().contains("ERR no"));
    }
}
