//! Prometheus as a judge: an expression as in an alerting rule, so that any result is bad.
//!
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>

use super::Said;
use crate::get::Get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A result that is longer is none that anybody meant.
const ANSWER: usize = 1024 * 1024;
const HTTP: u16 = 80;
/// Of what an expression found, and of its labels.
const SHOWN: usize = 3;

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Sample {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// Seconds, and the value as text.
    #[serde(default)]
    value: Option<(f64, String)>,
}

pub(super) async fn ask(url: &str, query: &str) -> Said {
    match answered(url, query).await {
        Ok(said) => said,
        Err(why) => Said::Unknown { why },
    }
}

async fn answered(url: &str, query: &str) -> Result<Said, String> {
    // The URL may hold a password: it is in no error.
    let uri: Uri = url.parse().map_err(|_| "its URL is none".to_owned())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("its URL does not begin with http://".to_owned());
    };
    let port = authority.port_u16().unwrap_or(HTTP);
    let host = authority.host().trim_matches(['[', ']']);
    let user = authority.as_str().rsplit_once('@').map(|(user, _)| ("authorization", basic(user)));
    let get = Get {
        path: format!("{}/api/v1/query?query={}", uri.path().trim_end_matches('/'), escaped(query)),
        host: format!("{}:{port}", authority.host()),
        fields: user.into_iter().collect(),
        keep: ANSWER,
    };
    let told = |why: String| format!("http://{}: {why}", get.host);
    let answer = get.from((host, port)).await.map_err(told)?;
    if answer.cut {
        return Err(told("its answer is longer than 1 MiB".to_owned()));
    }
    // Its errors come with 4xx and 5xx, and say more than those.
    let odd = || told(format!("it answered {}, and not as Prometheus does", answer.status));
    let Data { kind, result } = match serde_json::from_slice(&answer.body).map_err(|_| odd())? {
        Answer::Error { error } => return Err(told(error)),
        Answer::Success { data } => data,
    };
    if kind != "vector" {
        return Err(told(format!("the result is a {kind}: an expression as in an alerting rule gives a vector")));
    }
    let found: Vec<Sample> = serde_json::from_value(result).map_err(|_| odd())?;
    Ok(if found.is_empty() { Said::Good } else { Said::Bad { words: words(&found) } })
}

fn words(found: &[Sample]) -> String {
    let mut all: Vec<String> = found.iter().take(SHOWN).map(Sample::words).collect();
    if found.len() > SHOWN {
        all.push(format!("and {} more", found.len() - SHOWN));
    }
    all.join(", ")
}

impl Sample {
    /// `http_errors{job="web", code="500"} = 12`
    fn words(&self) -> String {
        const NAME: &str = "__name__";
        let name = self.metric.get(NAME).map_or("", String::as_str);
        let labels = self.metric.iter().filter(|(key, _)| *key != NAME);
        let labels: Vec<String> = labels.take(SHOWN).map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let value = self.value.as_ref().map_or("a histogram", |(_, value)| value);
        format!("{name}{{{}}} = {value}", labels.join(", "))
    }
}

/// Userinfo of a URL as RFC 7617 wants it.
fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(unescaped(user)))
}

/// RFC 3986: everything but what is unreserved.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::get::tests::{answer, server};
    use tokio::net::TcpListener;

    async fn said(status: &'static str, body: &'static str) -> Said {
        let at = server(move |_| answer(status, body)).await;
        ask(&format!("http://{at}/"), "up").await
    }

    #[tokio::test]
    async fn an_empty_result_is_good_and_any_other_is_bad() {
        let good = said("200 OK", r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#).await;
        assert_eq!(good, Said::Good);
        let bad = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"errors","a":"1","b":"2","c":"3","d":"4"},"value":[1435781451.781,"12"]},
            {"metric":{},"value":[1435781451,"0"]}, {"metric":{},"histogram":[1,{}]}, {"metric":{},"value":[1,"1"]}]}}"#;
        let words = r#"errors{a="1", b="2", c="3"} = 12, {} = 0, {} = a histogram, and 1 more"#.to_owned();
        assert_eq!(said("200 OK", bad).await, Said::Bad { words });
    }

    #[tokio::test]
    async fn what_is_no_vector_is_unknown() {
        let why = async |status, body| match said(status, body).await {
            Said::Unknown { why } => why,
            other => panic!("{other:?}"),
        };
        let error = why("400 Bad Request", r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).await;
        assert!(error.ends_with(": parse error"), "{error}");
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"1"]}}"#;
        assert!(why("200 OK", scalar).await.contains("the result is a scalar"));
        assert!(why("502 Bad Gateway", "<html>").await.ends_with("it answered 502, and not as Prometheus does"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(ask(&format!("http://{closed}"), "up").await, Said::Unknown { .. }));
        assert!(
            matches!(ask("https://user:hunter2@prometheus", "up").await, Said::Unknown { why } if !why.contains("hunter2"))
        );
    }

    #[tokio::test]
    async fn the_query_goes_as_it_is_written_and_the_password_as_a_field() {
        let at = server(|head| {
            let query = "/prom/api/v1/query?query=rate%28errors%7Bjob%3D%22web%22%7D%5B1m%5D%29%20%3E%200.5%20%C3%BC ";
            let asked =
                head.starts_with(&format!("GET {query}")) && head.contains("authorization: Basic YW5uOmEvYg==\r\n");
            match asked {
                true => answer("200 OK", r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#),
                false => answer("400 Bad Request", head),
            }
        })
        .await;
        let query = "rate(errors{job=\"web\"}[1m]) > 0.5 ü";
        assert_eq!(ask(&format!("http://ann:a%2Fb@{at}/prom/"), query).await, Said::Good);
    }
}
