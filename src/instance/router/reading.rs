//! From a message to a command: headers, argument and body.

use std::time::{Duration, Instant};

use pontoon_sdk::{Code, Command, CommandId, DeliveryLevel, Error, Operation, Result, Span};
use serde_json::value::RawValue;

use super::{Router, TRACEPARENT};
use crate::bus::commands::Request;
use crate::bus::jobs::LONGEST_ID;
use crate::envelope::subject::decode_token;
use crate::link::pending::beyond;
use crate::reply::Caller;
use crate::settings::Jobs;
use crate::transport::Dial;

impl<T: Dial> Router<T> {
    /// The command of a message: its headers, argument and body. What concerns the caller is noted in `caller`.
    ///
    /// # Errors
    /// `Rejected`, with what is wrong.
    pub(super) fn command(
        &self,
        request: &Request,
        operation: &Operation,
        argument: Option<String>,
        id: CommandId,
        started: Instant,
        caller: &mut Caller,
    ) -> Result<Command> {
        let mut timeout =
            self.connector.timeout(operation.name).unwrap_or(self.shared.settings().commands.timeout.0);
        let (mut stream, mut named) = (false, None);
        let mut headers = Vec::new();
        for (name, value) in request.headers() {
            match name.to_ascii_lowercase().as_str() {
                "pontoon-wait" => named = Some(value.parse::<DeliveryLevel>()?),
                "pontoon-timeout" => timeout = self.timeout(value)?,
                // A job has one result.
                "pontoon-stream" => stream = caller.job.is_none() && value.eq_ignore_ascii_case("true"),
                "pontoon-expires" if caller.job.is_some() => {
                    expires(value, &self.shared.settings().jobs)?;
                }
                "pontoon-repeat" | "pontoon-scope" if caller.job.is_some() => {}
                "nats-msg-id" if caller.job.is_some() && value.len() > LONGEST_ID => {
                    let text = format!("the Nats-Msg-Id of a job must have 1 to {LONGEST_ID} bytes");
                    return Err(Error::rejected(Code::BadBody, text));
                }
                TRACEPARENT if caller.traceparent.is_none() => {}
                lower if lower.starts_with("pontoon-") || lower == TRACEPARENT => {
                    headers.push((name.to_owned(), value.to_owned()));
                }
                // Nothing else that a caller sends is passed on, least of all what begins with `Nats-`.
                _ => {}
            }
        }
        let streamed = self.connector.streamed(operation.name).filter(|_| stream);
        let delivery = streamed.unwrap_or(operation.delivery);
        caller.wait = delivery;
        if let Some(wanted) = named {
            if wanted > delivery {
                return Err(beyond(operation.name, delivery, wanted));
            }
            (caller.wait, caller.named_wait) = (wanted, true);
        }
        caller.deadline = match &mut caller.job {
            Some(job) => {
                job.timeout = timeout;
                job.expires
            }
            None => started + timeout,
        };
        let argument = argument.map(|tokens| decode(&tokens)).transpose()?;
        let body = self.body(request)?;
        Ok(Command {
            id,
            operation: operation.name,
            argument,
            body,
            headers,
            deadline: caller.deadline,
            stream,
        })
    }

    fn timeout(&self, value: &str) -> Result<Duration> {
        let span: Span = value
            .parse()
            .map_err(|error| Error::rejected(Code::BadBody, format!("Pontoon-Timeout: {error}")))?;
        let limit = self.shared.settings().commands.max_timeout;
        if span > limit {
            return Err(Error::rejected(
                Code::BadBody,
                format!("Pontoon-Timeout is over {limit} (commands.max_timeout)"),
            ));
        }
        Ok(span.0)
    }

    fn body(&self, request: &Request) -> Result<Box<RawValue>> {
        let bytes = request.body();
        let limit = self.shared.settings().commands.max_body;
        if bytes.len() > limit.0 {
            let text =
                format!("the body has {} bytes; at most {limit} are taken (commands.max_body)", bytes.len());
            return Err(Error::rejected(Code::TooLarge, text));
        }
        let bytes = if bytes.is_empty() { b"{}".as_slice() } else { bytes };
        serde_json::from_slice(bytes)
            .map_err(|error| Error::rejected(Code::BadBody, format!("the body is not JSON: {error}")).at(""))
    }
}

/// For how long a job may be sent, by its header `Pontoon-Expires`.
///
/// # Errors
/// `Rejected` with 400.
pub(in crate::instance) fn expires(value: &str, jobs: &Jobs) -> Result<Duration> {
    let wrong = |what: String| Error::rejected(Code::BadBody, format!("Pontoon-Expires {what}"));
    let span: Span = value.parse().map_err(|error| wrong(format!("is wrong: {error}")))?;
    if span > jobs.max_age {
        return Err(wrong(format!("is over {} (jobs.max_age)", jobs.max_age)));
    }
    Ok(span.0)
}

/// What the tokens behind an operation mean; a name with dots in it may come as several.
fn decode(tokens: &str) -> Result<String> {
    let decoded: Option<Vec<_>> = tokens.split('.').map(decode_token).collect();
    let wrong = || Error::rejected(Code::BadBody, "the subject holds a broken escape; write =HH for a byte");
    Ok(decoded.ok_or_else(wrong)?.join("."))
}
