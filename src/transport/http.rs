//! One request over HTTP/1.1, for what must be known before a link is dialled: bounded in time and size, and no redirect is
//! followed.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;
use pontoon_sdk::url::Url;
use pontoon_sdk::{Error, HttpRequest};
use tokio::time::timeout;

use super::connect::connect;
use super::tcp::Address;
use super::{DialError, DialErrorKind, Settings, classify};

/// The largest header of an answer, in bytes.
const HEADER_LIMIT: usize = 16 * 1024;
/// How many header fields it may have.
const HEADER_COUNT: usize = 128;
/// The largest body of an answer.
const BODY_LIMIT: usize = 64 * 1024;

/// Takes the URL of a request apart.
///
/// # Errors
/// `Config` with what is wrong with it.
pub fn url(text: &str) -> Result<Url<'_>, Error> {
    Url::parse(text, &[("http", 80), ("https", 443)]).map_err(|fault| Error::config(fault.to_string()))
}

/// Makes the request within `connect_timeout`, and returns the body of an answer with a status of success.
///
/// # Errors
/// As for a dial: a refusal is one of credentials, too many requests and other errors of the service may pass.
pub async fn perform(request: &HttpRequest, settings: &Settings) -> Result<Bytes, DialError> {
    let limit = settings.config.connect_timeout.0;
    let url = url(&request.url).map_err(|error| DialError::wrong_address(error.message()))?;
    let address = Address::from(&url);
    let exchanged = timeout(limit, exchange(request, &url, &address, settings)).await;
    exchanged.unwrap_or_else(|_| {
        Err(DialError::unreachable(format!(
            "{address} did not answer the request before the connection within {}",
            settings.config.connect_timeout
        )))
    })
}

async fn exchange(
    request: &HttpRequest,
    url: &Url<'_>,
    address: &Address,
    settings: &Settings,
) -> Result<Bytes, DialError> {
    let unfit = || DialError::wrong_address(format!("the request to {address} has what HTTP does not allow"));
    let body = request.body.as_ref().map(|body| body.reveal()).transpose()?.unwrap_or_default();
    let mut built = Request::builder().method(request.method.as_str()).uri(url.path_and_query().as_ref());
    for (name, value) in &request.headers {
        built = built.header(name, HeaderValue::from_str(&value.reveal()?).map_err(|_| unfit())?);
    }
    let built = built.header(HOST, url.authority()).header(CONTENT_LENGTH, body.len());
    let built = built.header(USER_AGENT, settings.user_agent()).body(body).map_err(|_| unfit())?;
    let wire = connect(address, None, settings).await?;
    let broke = |error: hyper::Error| match error.is_parse() {
        true => DialError::wrong_address(format!("{address} does not speak HTTP: {error}")),
        false => DialError::unreachable(format!("{address} broke off: {error}")),
    };
    let mut client = http1::Builder::new();
    client.max_buf_size(HEADER_LIMIT).max_headers(HEADER_COUNT);
    let (mut sender, connection) = client.handshake(TokioIo::new(wire)).await.map_err(broke)?;
    let answered = async {
        let response = sender.send_request(built).await.map_err(broke)?;
        if !response.status().is_success() {
            return Err(refused(address, &response));
        }
        read(response.into_body(), address).await
    };
    let driven = async {
        // What ends it shows in the answer.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answered => answer,
        never = driven => never,
    }
}

async fn read(mut body: Incoming, address: &Address) -> Result<Bytes, DialError> {
    let mut read = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| DialError::unreachable(format!("{address} broke off: {error}")))?;
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if read.len() > BODY_LIMIT {
            return Err(DialError::wrong_address(format!(
                "the answer of {address} has more than {BODY_LIMIT} bytes; is it the right url?"
            )));
        }
    }
    Ok(read.into())
}

/// The error for a status that is not one of success.
fn refused(address: &Address, response: &hyper::Response<Incoming>) -> DialError {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let elsewhere = header(LOCATION).filter(|_| status.is_redirection());
    let elsewhere = elsewhere.map(|to| format!("; it leads to {}, which is not followed", to.escape_debug()));
    let message = format!(
        "{address} answered the request before the connection with {status}{}",
        elsewhere.unwrap_or_default()
    );
    let error = DialError { kind: classify::kind_of_status(status.as_u16()), retry_after, message };
    let many = status == hyper::StatusCode::TOO_MANY_REQUESTS;
    if many && error.kind == DialErrorKind::Unreachable { error.slowly() } else { error }
}
