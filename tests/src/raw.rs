//! Ways to a server below its client: gRPC calls with any bytes as message, HTTP requests, bytes thrown at a port. For
//! tests of what a server does with input no client would send.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// Calls `/package.Service/Method` with these bytes as the one request message; gives the (first) answer's bytes.
pub async fn call(channel: &Channel, path: &str, message: Vec<u8>) -> Result<Vec<u8>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = path.parse().expect("a path");
    let request = tonic::Request::new(tokio_stream::once(message));
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    match tokio::time::timeout(Duration::from_secs(20), answers.message()).await {
        Ok(answer) => Ok(answer?.unwrap_or_default()),
        Err(_) => panic!("{path:?}: no answer", path = "the call"),
    }
}

/// Writes bytes to a port, ends the writing side and reads what comes back until the other side is done with it.
pub async fn throw(address: &str, bytes: Vec<u8>) -> Vec<u8> {
    exchange(address, bytes, true).await
}

async fn exchange(address: &str, bytes: Vec<u8>, hang_up: bool) -> Vec<u8> {
    let address = address.to_owned();
    let throw = move || -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.set_write_timeout(Some(Duration::from_secs(20)))?;
        let mut answer = Vec::new();
        // The server may hang up in the middle: that is an answer too.
        if socket.write_all(&bytes).is_ok() && (!hang_up || socket.shutdown(Shutdown::Write).is_ok()) {
            socket.read_to_end(&mut answer).ok();
        }
        Ok(answer)
    };
    tokio::task::spawn_blocking(throw).await.expect("no panic").expect("the port answers")
}

/// An HTTP/1.1 request of any method on a port: code and body.
pub async fn http(address: &str, method: &str, path: &str) -> (u16, String) {
    http_with(address, method, path, &[], "").await
}

/// The same with headers and a body.
pub async fn http_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = String::from_utf8_lossy(&exchange(address, request.into_bytes(), false).await).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
