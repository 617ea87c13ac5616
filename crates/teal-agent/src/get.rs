//! One `GET` over a connection of its own, read to its end.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};

const AGENT: HeaderValue = HeaderValue::from_static("teal");

/// What is asked, whoever is asked.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// With its query.
    pub path: String,
    pub host: String,
    /// Beside `Host`.
    pub fields: Vec<(&'static str, String)>,
    /// More of the answer's body than this is read and thrown away.
    pub keep: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// There was more of it.
    pub cut: bool,
}

impl Answer {
    /// 2xx and 3xx.
    pub fn is_good(&self) -> bool {
        (200..400).contains(&self.status)
    }
}

impl Get {
    /// # Errors
    /// No whole answer came; in words.
    pub async fn from(&self, address: impl ToSocketAddrs) -> Result<Answer, String> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.path.parse().map_err(|_| format!("`{}` is no path", self.path))?;
        *request.headers_mut() = self.headers()?;
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It lasts as long as its one request.
        let asked = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status().as_u16();
            let mut answer = Answer { status, body: Vec::new(), cut: false };
            let mut body = response.into_body();
            while !body.is_end_stream() {
                let Some(frame) = body.frame().await else { break };
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                let room = self.keep - answer.body.len();
                answer.cut |= data.len() > room;
                answer.body.extend_from_slice(&data[..data.len().min(room)]);
            }
            Ok(answer)
        };
        let mut connection = std::pin::pin!(connection);
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            answer = &mut asked => answer,
            // What had come before its end is still to be read.
            _ = &mut connection => asked.await,
        }
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| format!("`{text}` cannot be sent"));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(&self.host)?);
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        for (name, text) in &self.fields {
            headers.insert(HeaderName::from_static(name), value(text)?);
        }
        Ok(headers)
    }
}

/// hyper's own words stop before the cause.
fn broken(error: hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers each request, one a connection, with what this makes of its head.
    pub async fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
                    let text = answer(&String::from_utf8_lossy(&head));
                    let _ = stream.write_all(text.as_bytes()).await;
                });
            }
        });
        address
    }

    pub fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_and_kept_as_far_as_wanted() {
        let at = server(|head| answer("404 Not Found", head)).await;
        let get = Get {
            path: "/a?b=c".to_owned(),
            host: "shop.example".to_owned(),
            fields: vec![("teal-preview", "candidate x".to_owned())],
            keep: 1000,
        };
        let whole = get.from(at).await.unwrap();
        let head = String::from_utf8(whole.body.clone()).unwrap();
        assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\nhost: shop.example\r\n"), "{head}");
        assert!(head.contains("teal-preview: candidate x\r\n") && whole.status == 404 && !whole.cut);
        let short = Get { keep: 4, ..get }.from(at).await.unwrap();
        assert_eq!((short.body.as_slice(), short.cut), (b"GET ".as_slice(), true));
    }

    #[tokio::test]
    async fn what_is_no_whole_answer_is_said() {
        let get = Get { path: "/".to_owned(), host: "x".to_owned(), ..Get::default() };
        let hangs_up = server(|_| String::new()).await;
        assert!(get.from(hangs_up).await.is_err());
        let cut = server(|_| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned()).await;
        assert!(get.from(cut).await.is_err());
        let odd = server(|_| "220 mail ready\r\n".to_owned()).await;
        assert!(get.from(odd).await.is_err());
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(get.from(closed).await.unwrap_err().contains("refused"));
        assert_eq!(Get { path: "no path".into(), ..get }.from(closed).await.unwrap_err(), "`no path` is no path");
    }
}
